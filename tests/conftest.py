"""Shared by the tests: the shipped experiments, and a closing section that prints what was compared."""

import os
import shutil
import sys

import pytest

from helpers.experiments import data_folder, load, names

MEASURE = "measured"
PLAIN = [name for name in names() if "protocol" not in load(name).about.get("server", {})]
WITH_TCP = [name for name in names() if load(name).about.get("server", {}).get("protocol") != "h3"]


# What takes or waits a minute begins first, so that no worker is left alone with it at the end
FIRST = ("test_in_jupyterlab.py", "test_testbed.py", "test_encrypted.py")


def pytest_collection_modifyitems(items):
    rank = {name: at for at, name in enumerate(FIRST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(FIRST)))


def pytest_generate_tests(metafunc):
    if "experiment" in metafunc.fixturenames:
        metafunc.parametrize("experiment", WITH_TCP, indirect=True)


@pytest.fixture(scope="module")
def experiment(request):
    return load(request.param)


@pytest.fixture(scope="session")
def data():
    return data_folder()


@pytest.fixture
def measured(record_property):
    """Tell a line that the run prints at its end, whatever runs the tests."""
    return lambda text: record_property(MEASURE, text)


def pytest_terminal_summary(terminalreporter):
    lines = [value for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
             for name, value in report.user_properties if name == MEASURE]
    if lines:
        terminalreporter.section("measured")
        for line in sorted(lines):
            terminalreporter.write_line(line)


def require(*programs):
    """Go on where all the programs are installed; else see `lacking`."""
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        lacking(f"not installed: {', '.join(missing)}")


def lacking(what):
    """Skip the test, saying why; in CI on Linux, where nothing may be lacking, fail instead."""
    (pytest.fail if os.environ.get("CI") and sys.platform == "linux" else pytest.skip)(what)


@pytest.fixture
def found(tmp_path):
    """`found(segments, limits)`: what is found in a toy."""
    from helpers.diagnosis import Limits, diagnose
    from tests.diagnosis.judged import tables_of
    from tests.toys import toy

    def of(*segments, **limits):
        return diagnose(tables_of(toy(tmp_path / "toy.pcap", *segments)), Limits(**limits))
    return of
