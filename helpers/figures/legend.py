"""The line below a figure that names its marks and states."""

from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from helpers.connections import HOSTS
from helpers.figures.style import COLOURS, STATE_COLOURS, points_of

KINDS = {"page": "page", "image": "image", "other": "other"}


def legend(ax: Axes, kinds: Iterable[str] = ()) -> None:
    """One line below the figure that names its marks, and the states whose name found no room."""
    low, high = ax.get_xlim()
    marks = {str(line.get_gid()).partition(" ")[2]: line for line in ax.lines
             if any(low <= x <= high for x in line.get_xdata())}
    named = " ".join(text.get_text() for text in ax.texts)
    bands = {str(patch.get_gid()).rpartition(" ")[2] for patch in ax.patches
             if patch.get_width() > points_of(ax, 4)}
    patches = [(COLOURS[kind], name) for kind, name in KINDS.items() if kind in kinds]
    patches += [(colour, state) for state, colour in STATE_COLOURS.items()
                if state in bands and state not in named]
    handles = [Rectangle((0, 0), 1, 1, facecolor=colour, edgecolor=COLOURS["edge"], linewidth=0.6, label=name)
               for colour, name in patches]
    ends = [(COLOURS[host], host, host) for host in HOSTS] + [(COLOURS["quiet"], "cannot tell", "nan")]
    dots = [("o", colour, colour, f"FIN, {name}", f"{end} FIN") for colour, name, end in ends]
    dots += [("o", COLOURS["quiet"], "white", "FIN in answer", "hollow")]
    dots += [("X", colour, colour, f"RST, {name}", f"{end} RST") for colour, name, end in ends]
    dots += [("|", COLOURS["probe"], COLOURS["probe"], "keep-alive probe", "probe")]
    marks |= {"hollow": 0} if any(line.get_markerfacecolor() == "white" for line in marks.values()) else {}
    handles += [Line2D([], [], linestyle="none", marker=marker, color=colour, markerfacecolor=face,
                       markersize=12 if marker == "|" else 7.5, markeredgewidth=1.7, label=label)
                for marker, colour, face, label, mark in dots if mark in marks]
    below = -0.5 / (ax.figure.get_size_inches()[1] * ax.get_position().height)
    if handles:
        ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, below), ncols=len(handles),
                  fontsize=9, handletextpad=0.3, columnspacing=1.2, handlelength=1.2)
