"""The course's style: one colour for each meaning (at the top); making and showing figures; words and sizes in them.

Text from a capture is shown as it is, never as mathematics.
"""

import functools
import io
from collections.abc import Callable, Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath
from matplotlib.transforms import Bbox

COLOURS = {
    "client": "#005B9A", "server": "#D55E00",
    "page": "#009E73", "image": "#7FC4EE", "other": "#F0E442",
    "probe": "#1A1A1A", "idle": "#BBBBBB", "quiet": "#666666", "edge": "#333333",
    "handshake": "#CC79A7", "unused": "#A01C1C", "unused row": "#FBE3E0",
    "long": "#3B3B6D", "short": "#C9A227", "article": "#DADADA"}
STATE_COLOURS = {
    "SYN_SENT": "#DDDDDD", "SYN_RECEIVED": "#DDDDDD", "ESTABLISHED": "#E6ECE4", "FIN_WAIT_1": "#D6D6D6",
    "FIN_WAIT_2": "#ABABAB", "CLOSING": "#C4C4C4", "CLOSE_WAIT": "#E8DDB5", "LAST_ACK": "#D9CB96",
    "TIME_WAIT": "#8A2B78"}
STYLE = {
    "figure.figsize": (9, 4), "figure.dpi": 110, "savefig.dpi": 110, "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans", "font.size": 11, "axes.titlesize": 13, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.labelsize": 11, "axes.labelcolor": "#333333", "legend.frameon": False,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#888888", "xtick.labelsize": 10,
    "ytick.labelsize": 10, "text.usetex": False, "text.parse_math": False}

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".svg", ".avif")
SLANT, INSTANT = 0.5, 0.5
MARGIN = 2.0    # inches; labels that stand outside a figure need less
CENTRE, SMALL = {"ha": "center", "va": "center"}, {"size": 9, "zorder": 5}


def in_style(function: Callable) -> Callable:
    """`function`, drawing in the course's style."""
    @functools.wraps(function)
    def styled(*args, **kwargs):
        with plt.rc_context(STYLE):
            return function(*args, **kwargs)
    return styled


@in_style
def figure(height: float = 4.0, width: float = 9.0, **subplots: object) -> tuple[Figure, Axes]:
    """A new figure and its axes, as `plt.subplots` gives them, in the course's style; sizes in inches."""
    return plt.subplots(figsize=(width, height), **subplots)


@in_style
def show(fig: Figure | Axes, alt: str, title: str | None = None) -> None:
    """Display `fig` (a figure, or axes of it) once and close it.

    `alt`: what it shows, in words: the PNG's alternative text and the output's plain text. `title`: its
    message, written above all its axes.
    """
    from IPython.display import display

    fig = fig.figure
    if title is not None and len(fig.axes) == 1:
        fig.axes[0].set_title(title)
    elif title is not None:
        fig.suptitle(title, x=0.01, ha="left", weight="bold", size=STYLE["axes.titlesize"])
    plt.close(fig)
    display(_Described(fig, alt))


class _Described:
    """A figure that notebooks show as a PNG with alternative text."""

    def __init__(self, fig, alt):
        self.fig, self.alt = fig, alt

    def __repr__(self):
        return f"<Figure: {self.alt}>"

    def _repr_png_(self):
        return png_of(self.fig), {"alt": self.alt}


@in_style
def png_of(fig: Figure) -> bytes:
    """`fig` as PNG, the same bytes each time; closes it. What stands more than `MARGIN` outside is cut off."""
    png, whole = io.BytesIO(), fig.get_tightbbox
    limit = Bbox([[-MARGIN, -MARGIN], fig.get_size_inches() + MARGIN])
    fig.get_tightbbox = lambda *args, **kwargs: Bbox.intersection(whole(*args, **kwargs), limit) or limit
    fig.savefig(png, format="png", bbox_inches="tight", metadata={"Software": None})
    plt.close(fig)
    return png.getvalue()


# Words and measures

def plain(text: object, longest: int = 40) -> str:
    """`text` fit for a figure: what can't be printed is escaped, and the middle of a long text left out."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    return text if len(text) <= longest else f"{text[:longest * 2 // 3]}…{text[1 - longest // 3:]}"


def duration(seconds: float) -> str:
    """`seconds` in words of three digits: `65.0 s`, `12.3 ms`, `85 µs`."""
    for size, unit in ((1, "s"), (1e-3, "ms")):
        if seconds >= size * 0.9995:
            return f"{seconds / size:.{max(0, 2 - int(np.log10(seconds / size * 1.0005)))}f} {unit}"
    return f"{seconds * 1e6:.0f} µs"


def kind_of(target: object) -> str:
    """What a request's target names: `page`, `image` or `other` (the favicon, or anything else)."""
    path = str(target).split("?")[0].lower()
    return "image" if path.endswith(IMAGES) else "page" if path.endswith(("/", ".html", ".htm")) else "other"


def port_of(socket: str) -> str:
    """The port of `address:port`; `?` where it is not known."""
    return "?" if pd.isna(socket) else str(socket).rpartition(":")[2]


def numbers_of(column: pd.Series) -> np.ndarray:
    """A column as floats; what is missing as NaN."""
    return column.to_numpy(float, na_value=np.nan)


def axes_for(ax: Axes | None, height: float) -> Axes:
    """`ax`; None: the current axes, or new ones in a figure `height` inches high where there is none yet."""
    if ax is None and not plt.get_fignums():
        plt.figure(figsize=(9, height))
    return plt.gca() if ax is None else ax


def points_of(ax: Axes, points: float) -> float:
    """How many data units of the x axis `points` (1/72 inch) are."""
    return points / 72 * np.ptp(ax.get_xlim()) / (ax.figure.get_size_inches()[0] * ax.get_position().width)


@functools.cache
def text_width(text: str, weight: str = "normal") -> float:
    """The width of a 9-point label in points."""
    font = FontProperties(family="DejaVu Sans", weight=weight)
    return TextPath((0, 0), text, size=9, prop=font).get_extents().width


def time_axis(ax: Axes, between: tuple[float, float]) -> int:
    """How many units a second has on the x axis, now set to `between` (s) or around: 1000 in a short window, else 1."""
    between = between if between[1] > between[0] else (between[0] - INSTANT, between[0] + INSTANT)
    unit = 1000 if between[1] - between[0] < 2 else 1
    ax.set(xlim=(between[0] * unit, between[1] * unit), xlabel="Time (ms)" if unit == 1000 else "Time (s)")
    ax.tick_params(axis="y", length=0)
    return unit


def stays_of(states: pd.DataFrame, unit: int) -> pd.DataFrame:
    """`states` in units of the axis, infinite where the capture shows no end; `lasts`: the duration in words."""
    since, until = numbers_of(states["since"]), numbers_of(states["until"])
    lasts = ["" if np.isnan(time) else f"{round(time, 1):g} s" for time in until - since]
    return states.assign(since=np.nan_to_num(since * unit, nan=-np.inf), lasts=lasts,
                         until=np.nan_to_num(until * unit, nan=np.inf))


def band(ax: Axes, stay: object, y: float, height: float, texts: Sequence[str], keep_clear: Sequence[float] = (),
         **look: object) -> None:
    """Draw a stay as a band, with the first of `texts` that fits between the times in `keep_clear`."""
    begin, end = np.clip([stay.since, stay.until], *ax.get_xlim())
    if end - begin < points_of(ax, 1):
        return
    colour = STATE_COLOURS.get(stay.state, "white")
    ax.add_patch(Rectangle((begin, y), end - begin, height, facecolor=colour, zorder=2, **look))
    low, high = widest(begin, end, keep_clear)
    weight = "bold" if stay.state == "TIME_WAIT" else "normal"
    for text in texts:
        if points_of(ax, text_width(text, weight) + 14) < high - low:
            ax.text((low + high) / 2, y + 0.53 * height, text, size=9, weight=weight, color=ink(colour),
                    zorder=3, **CENTRE)
            return


def widest(begin: float, end: float, cuts: Sequence[float]) -> tuple[float, float]:
    """The widest piece of the range from `begin` to `end` when it is cut at `cuts`."""
    cuts = np.unique(np.clip([begin, *cuts, end], begin, end))
    return max(pairwise(cuts), key=np.ptp)


def ink(colour: str) -> str:
    """Black or white, whichever can be read on `colour`."""
    return "white" if np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) < 0.5 else "black"
