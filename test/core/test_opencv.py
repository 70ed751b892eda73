"""OpenCV is asked for by name, and its absence says what to install."""

import sys

import pytest

from cigocc_ros.core.opencv import import_cv2


def test_absence_names_purpose_and_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv2', None)
    with pytest.raises(
        ModuleNotFoundError, match=r'folding maps needs OpenCV.*apt install'
    ) as caught:
        import_cv2('folding maps')
    assert caught.value.name == 'cv2'


def test_presence_returns_it():
    cv2 = pytest.importorskip('cv2')
    assert import_cv2('folding maps') is cv2
