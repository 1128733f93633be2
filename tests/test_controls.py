"""Controls: a hand at them draws anew; where nothing runs, or ipywidgets is missing, there is the chosen case."""

import base64
import sys

import matplotlib.pyplot as plt
import pytest

from helpers.controls import WIDGET, Controls

PNG = b"\x89PNG"


def draw(bars, kind):
    fig, ax = plt.subplots(figsize=(2, 1))
    ax.bar(range(bars), [1] * bars)
    return fig, f"{bars} bars, {kind}"


@pytest.fixture
def controls():
    return Controls(draw, labels={"bars": "bars, each 1 high"}, bars=(3, range(1, 6)), kind=("plain", ["plain", "fancy"]))


def test_the_chosen_case_is_shown_with_its_words(controls):
    data, about = controls._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(PNG)
    assert data["text/plain"] == "<Figure: 3 bars, plain>" and about == {"image/png": {"alt": "3 bars, plain"}}
    assert data[WIDGET]["model_id"]


def test_moving_a_control_draws_anew(controls):
    """As JupyterLab does: the slider's value is set, and the image follows; the menu the same."""
    slider, menu, image, line = controls.widget().children
    before = image.value
    assert (slider.description, menu.description) == ("bars, each 1 high", "kind")
    assert slider.options == (1, 2, 3, 4, 5) and slider.value == 3 and menu.value == "plain"
    slider.value = 5
    assert image.value != before and bytes(image.value).startswith(PNG) and line.value == "5 bars, plain"
    menu.value = "fancy"
    assert line.value == "5 bars, fancy" and controls.values == {"bars": 5, "kind": "fancy"}
    slider.value, menu.value = 3, "plain"
    assert bytes(image.value) == bytes(before)


def test_without_ipywidgets_there_is_the_picture(controls, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    data, _ = controls._repr_mimebundle_()
    assert WIDGET not in data and base64.b64decode(data["image/png"]).startswith(PNG)


def test_a_first_value_that_is_no_choice():
    with pytest.raises(ValueError, match=r"bars: 9 is none of its choices, \[1, 2\]"):
        Controls(draw, bars=(9, [1, 2]))
