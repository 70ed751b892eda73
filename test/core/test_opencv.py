"""OpenCV is asked for by name, and its absence says what to install."""

import importlib
import sys

import pytest

from cigocc_ros.core import opencv
from cigocc_ros.core.opencv import has_cv2, import_cv2

# What numpy 2 raises for a module of numpy 1 (numpy/core/_multiarray_umath.py, numpy 2.0 to 2.4),
# and what OpenCV 4.5 of Ubuntu 22.04 makes of it (modules/python/src2/cv2.cpp: import_array).
OF_NUMPY_1 = """
import sys
sys.stderr.write('A module that was compiled using NumPy 1.x cannot be run in\\n' * 40)
raise ImportError('numpy.core.multiarray failed to import')
"""
AS_ATTRIBUTE = "raise AttributeError('_ARRAY_API not found, numpy is too new')"
AS_LIBRARY = "raise ImportError('libGL.so.1: cannot open shared object file')"


@pytest.fixture
def broken(monkeypatch, tmp_path):
    """Return what puts a cv2 of this source first on the path; count its imports."""

    def put(source: str) -> list[str]:
        (tmp_path / 'cv2.py').write_text(f'import tries\ntries.made.append(1)\n{source}')
        (tmp_path / 'tries.py').write_text('made = []')
        monkeypatch.syspath_prepend(str(tmp_path))
        for name in ('cv2', 'tries'):
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setattr(opencv, '_broken', None)
        return importlib.import_module('tries').made

    yield put
    sys.modules.pop('tries', None)


def test_absence_names_purpose_and_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv2', None)
    with pytest.raises(
        ModuleNotFoundError, match=r'folding maps needs OpenCV.*apt install'
    ) as caught:
        import_cv2('folding maps')
    assert caught.value.name == 'cv2'
    assert not has_cv2()


def test_presence_returns_it():
    cv2 = pytest.importorskip('cv2')
    assert import_cv2('folding maps') is cv2
    assert has_cv2()


@pytest.mark.parametrize('source', [OF_NUMPY_1, AS_ATTRIBUTE])
def test_an_opencv_of_numpy_1_is_tried_once_in_silence_and_names_numpy(broken, source, capfd):
    tries = broken(source)
    for _ in range(5):
        with pytest.raises(ImportError, match=r"numpy than .*pip install 'numpy<2'") as caught:
            import_cv2('rectifying')
        assert '\n' not in str(caught.value) and 'python3-opencv' not in str(caught.value)
        assert not has_cv2()
    assert tries == [1]
    assert capfd.readouterr().err == ''


def test_an_opencv_without_its_libraries_says_which(broken):
    broken(AS_LIBRARY)
    with pytest.raises(ImportError, match=r'libGL\.so\.1'):
        import_cv2('rectifying')


def test_what_a_good_opencv_says_is_not_swallowed(broken, capfd):
    broken("import sys; sys.stderr.write('a warning of the library')")
    import_cv2('rectifying')
    assert 'a warning of the library' in capfd.readouterr().err
