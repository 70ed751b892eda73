"""What setup.py says, for every test of the packaging."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def setup_arguments():
    """Return the arguments that setup.py gives to setuptools, without installing anything."""
    setuptools = pytest.importorskip('setuptools')
    seen = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, 'setup', lambda **arguments: seen.update(arguments))
        patch.chdir(REPOSITORY)
        code = compile((REPOSITORY / 'setup.py').read_text(), 'setup.py', 'exec')
        exec(code, {'__name__': 'setup'})
    return seen
