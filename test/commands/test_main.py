"""The dispatcher: exit codes and the one line that a user sees."""

from types import SimpleNamespace

import pytest

from cigocc_ros import __version__
from cigocc_ros.commands import main as dispatcher
from cigocc_ros.core.errors import DataFileError


@pytest.fixture
def run_verb(monkeypatch):
    """Return a function that runs `cigocc <verb> --count N` with a given body of run()."""

    def run(body, *words):
        module = SimpleNamespace(
            HELP='a verb',
            add_arguments=lambda parser: parser.add_argument('--count', type=int),
            run=body,
        )
        monkeypatch.setattr(dispatcher, 'verb_module', lambda verb: module)
        return dispatcher.main(['infer', *words])

    return run


def raise_(error):
    raise error


def test_arguments_reach_the_verb_and_its_code_is_returned(run_verb):
    assert run_verb(lambda args: args.count, '--count', '3') == 3


def test_a_user_error_is_one_line_and_2(run_verb, capsys):
    error = DataFileError('calib.txt:3: expected 12 numbers, found 11')
    assert run_verb(lambda args: raise_(error)) == 2
    assert capsys.readouterr().err == f'cigocc infer: {error}\n'


def test_a_missing_library_is_the_line_that_installs_it(run_verb, capsys):
    error = ModuleNotFoundError("No module named 'torch'", name='torch')
    assert run_verb(lambda args: raise_(error)) == 2
    assert "pip install '.[train]'" in capsys.readouterr().err


def test_a_bug_is_not_hidden(run_verb):
    with pytest.raises(ZeroDivisionError):
        run_verb(lambda args: 1 // 0)
    with pytest.raises(ModuleNotFoundError):
        run_verb(lambda args: raise_(ModuleNotFoundError('no', name='cigocc_ros.nowhere')))


def test_interrupt_is_130(run_verb):
    assert run_verb(lambda args: raise_(KeyboardInterrupt())) == 130


def test_version_and_unknown_verbs(run_verb, capsys):
    with pytest.raises(SystemExit) as ended:
        run_verb(lambda args: 0, '--count', 'many')
    assert ended.value.code == 2
    with pytest.raises(SystemExit) as ended:
        dispatcher.main(['--version'])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f'cigocc {__version__}\n'
