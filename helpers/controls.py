"""Sliders and menus above a figure that answers at once; the figure of a chosen case where nothing runs.

A notebook keeps the picture of the chosen case and its words. The site, the lectures and a page that only shows a
notebook have no kernel, and show these; JupyterLab shows the controls.
"""

import base64
from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from helpers.figures import png_of

WIDGET = "application/vnd.jupyter.widget-view+json"


class Controls:
    """What a cell ends with to be played with. `values`: what is chosen, by name of the control.

    `draw`: makes of the values a figure, and says in words what it shows. `choices`: for each argument of `draw` the
    value chosen at first, and all there are: numbers make a slider, texts a menu. `labels`: what stands beside a
    control instead of its name, such as one with a unit. Raises ValueError where the first is none of the choices.
    """

    def __init__(self, draw: Callable[..., tuple[Figure, str]], labels: dict[str, str] | None = None,
                 **choices: tuple[object, Sequence]):
        for name, (first, others) in choices.items():
            if first not in others:
                raise ValueError(f"{name}: {first!r} is none of its choices, {list(others)!r}")
        self.draw, self.choices = draw, choices
        self.labels = {name: name.replace("_", " ") for name in choices} | (labels or {})
        self.values = {name: first for name, (first, _) in choices.items()}
        self._widget = None

    def picture(self) -> tuple[bytes, str]:
        """The figure of what is chosen, as PNG, and its words."""
        fig, words = self.draw(**self.values)
        return png_of(fig), words

    def set(self, **values: object) -> tuple[bytes, str]:
        """Choose other values, as a hand at the controls does; the new figure and its words."""
        self.values |= values
        return self.picture()

    def widget(self):
        """The controls as a widget of `ipywidgets`, which draws anew whenever one of them is moved."""
        import ipywidgets

        png, words = self.picture()
        image, line = ipywidgets.Image(value=png, format="png"), ipywidgets.Label(words)
        controls = [_control(ipywidgets, self.labels[name], *choice) for name, choice in self.choices.items()]
        for name, control in zip(self.choices, controls):
            control.observe(lambda change, name=name: self._answer(image, line, {name: change["new"]}), "value")
        return ipywidgets.VBox([*controls, image, line])

    def _answer(self, image, line, values):
        image.value, line.value = self.set(**values)

    def _repr_mimebundle_(self, include=None, exclude=None):
        png, words = self.picture()
        data = {"image/png": base64.b64encode(png).decode(), "text/plain": f"<Figure: {words}>"}
        try:
            self._widget = self._widget or self.widget()
            data[WIDGET] = self._widget._repr_mimebundle_()[WIDGET]
        except ImportError:
            pass                                    # without ipywidgets there is the picture
        return data, {"image/png": {"alt": words}}


def _control(ipywidgets, label, first, others):
    style = {"description_width": "11em"}
    menu = all(isinstance(one, str) for one in others)
    kind = ipywidgets.Dropdown if menu else ipywidgets.SelectionSlider
    return kind(options=list(others), value=first, description=label, style=style, layout={"width": "34em"},
                **({} if menu else {"continuous_update": False}))
