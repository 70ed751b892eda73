"""The self-check: rounding passes, a lost or invented class does not, however small."""

from types import SimpleNamespace

import numpy as np
import pytest

from cigocc_ros.core.errors import EngineError
from cigocc_ros.core.labels import CLASS_NAMES
from cigocc_ros.runtime.self_check import Golden, check_engine

SHAPE = (1, 64, 64, 16)
ROAD, PERSON = CLASS_NAMES.index('road'), CLASS_NAMES.index('person')


def stored() -> np.ndarray:
    """Return labels: 45 % road, 120 voxels of a person, the rest empty."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[:, :, :29, :] = ROAD
    labels[0, :30, 40, :4] = PERSON
    return labels


def agreement(found: np.ndarray) -> float:
    engine = SimpleNamespace(name='an engine', run=lambda inputs: {'labels': found})
    return check_engine(engine, Golden({}, {'labels': stored()}))


def test_the_same_answer_passes():
    assert agreement(stored()) == 1.0


def test_rounding_at_the_borders_of_classes_passes():
    found = stored()
    found[:, :40, 29, :] = ROAD
    assert 0.98 < agreement(found) < 0.995


def test_a_lost_class_is_refused_though_almost_all_labels_agree():
    found = stored()
    found[found == PERSON] = 0
    assert (found == stored()).mean() > 0.995
    with pytest.raises(EngineError, match='person: 0 voxels found, 120 expected.*not') as caught:
        agreement(found)
    assert 'labelled as at export' not in str(caught.value)


def test_an_invented_class_is_refused():
    found = stored()
    found[0, :20, 50, :5] = CLASS_NAMES.index('truck')
    with pytest.raises(EngineError, match='truck: 100 voxels found, 0 expected'):
        agreement(found)


def test_a_label_that_is_no_class_is_refused():
    found = stored()
    found[0, :20, 50, :5] = 200
    with pytest.raises(EngineError, match='label 200, which is none: 100 voxels found'):
        agreement(found)


def test_too_few_equal_labels_are_refused_though_the_counts_agree():
    found = np.ascontiguousarray(stored()[:, :, ::-1])
    with pytest.raises(EngineError, match=r'9\.\d+ % of the voxels.*99 % expected') as caught:
        agreement(found)
    assert 'voxels found,' not in str(caught.value)
