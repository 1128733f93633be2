"""A short share of `make fuzz`, the same every time: a fixed number of mutations of the seeds, held to the contract."""

import random
import warnings

import pytest
from fuzz import TARGETS, main, mutate


@pytest.mark.parametrize("target, many", [("readers", 120), ("talks", 20), ("tables", 6), ("quic", 30),
                                          ("sealed", 20), ("framed", 25)])
def test_a_share_of_the_long_run(tmp_path, target, many):
    function, seeds = TARGETS[target]
    seeds, chance = seeds(), random.Random(2018)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(many):
            data = mutate(chance.choice(seeds), chance)
            try:
                function(tmp_path / "capture", data)
            except Exception as error:
                (tmp_path / "broke").write_bytes(data)
                raise AssertionError(f"mutation {number} breaks {target}; it is in {tmp_path / 'broke'}") from error


def test_mutations_are_the_same_every_time():
    seed = TARGETS["readers"][1]()[0]
    one, other = ([mutate(seed, random.Random(number)) for number in range(50)] for _ in range(2))
    assert one == other and len(set(one)) > 40


def test_without_atheris_one_line_says_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "atheris", None)
    with pytest.raises(SystemExit, match="atheris is not here") as refused:
        main(10)
    assert "\n" not in str(refused.value)
