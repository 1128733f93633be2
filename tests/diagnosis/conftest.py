"""`found(segments, limits)`: what is found in a toy."""

import pytest

from helpers.diagnosis import Limits, diagnose
from tests.diagnosis.judged import tables_of
from tests.toys import toy


@pytest.fixture
def found(tmp_path):
    def of(*segments, **limits):
        return diagnose(tables_of(toy(tmp_path / "toy.pcap", *segments)), Limits(**limits))
    return of
