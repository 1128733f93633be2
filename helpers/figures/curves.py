"""States over time: bands of both ends, and the curve of sockets in TIME_WAIT."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from helpers.connections import HOSTS
from helpers.figures.legend import legend
from helpers.figures.style import COLOURS, axes_for, band, in_style, numbers_of, points_of, port_of, stays_of, time_axis
from helpers.states import count


@in_style
def state_bands(states: pd.DataFrame, ax: Axes | None = None, stream: int | Sequence[int] | None = None) -> Axes:
    """The state of both ends of each connection over time, as two bands named inside where the name fits.

    `stream`: one stream or a list of them (None: all).
    """
    if stream is not None:
        states = states[states["stream"].isin(np.atleast_1d(stream))]
    ends = states.drop_duplicates(["stream", "local"])
    lanes = np.arange(len(ends)) * 1.1 + 0.4 * (pd.factorize(ends["stream"])[0])
    place = dict(zip(zip(ends["stream"], ends["local"]), lanes))
    ax = axes_for(ax, 1.0 + 0.36 * len(ends))
    known = np.r_[numbers_of(states["since"]), numbers_of(states["until"])]
    known = known[np.isfinite(known)] if np.isfinite(known).any() else np.array([0, 1])
    unit = time_axis(ax, (known.min(), known.max() + 0.005 * np.ptp(known)))
    for stay in stays_of(states, unit).itertuples():
        texts = (stay.state + f", {stay.lasts}" * bool(stay.lasts), stay.state)
        band(ax, stay, place[stay.stream, stay.local], 1, texts, edgecolor="white", linewidth=0.6,
             gid=f"{stay.stream} {stay.host} {stay.state}")
    hosts = ends["host"].fillna("")
    names = np.where(hosts == "server", "server", ends["local"].map(port_of) + " " + hosts)
    ax.set_yticks(lanes + 0.5, names)
    ax.set_ylim(max([1, *lanes]) + 1.2, -0.2)
    ax.spines["left"].set_visible(False)
    for label, host in zip(ax.get_yticklabels(), hosts):
        label.set_color(COLOURS.get(host, COLOURS["quiet"]))
    legend(ax)
    return ax


@in_style
def time_wait_curve(states: pd.DataFrame, sockets: pd.DataFrame | None = None, ax: Axes | None = None,
                    until: float | None = None, asked: Mapping[str, Sequence[float]] | None = None) -> Axes:
    """How many sockets are in TIME_WAIT over time: lines from packets, marks from the kernel (`sockets`).

    Each line is named with its peak. `until`: last second drawn (None: a little after the last state known).
    `asked`: by host, when the kernel was asked (None: all the time, at both).
    """
    ax = axes_for(ax, 4)
    curves = {host: count(states, "TIME_WAIT", host) for host in HOSTS}
    known = numbers_of(states["until"])
    until = until or max([1.0, *known[np.isfinite(known)]]) * 1.05
    begin = min([0.0, *(curve.index.min() for curve in curves.values() if len(curve))])  # clocks may be set back
    ax.set(xlim=(begin, until), xlabel="Time (s)", ylabel="sockets in TIME_WAIT")
    wide = points_of(ax, 72 * 3.5) < until
    for host, curve in curves.items():
        curve = curve[curve.index <= until]
        times = np.r_[begin, curve.index.to_numpy(float), until]
        values = np.r_[0, curve.to_numpy(), curve.iloc[-1] if len(curve) else 0]
        ax.step(times, values, where="post", color=COLOURS[host], linewidth=2.4, zorder=3, clip_on=False,
                linestyle="-" if host == "server" else (0, (4, 1.2)), label=host)
        ax.fill_between(times, values, step="post", color=COLOURS[host], alpha=0.09, linewidth=0)
        _name_peak(ax, host, times, values, states)
        if sockets is not None and (asked is None or host in asked):
            _kernel_marks(ax, sockets, host, until, asked and asked[host])
    _share_axes(ax)
    if sockets is not None and wide:
        ax.text(1, 1, "lines: from packets; marks: the kernel's count (ss)", size=9, ha="right", va="top",
                transform=ax.transAxes, color=COLOURS["quiet"])
    return ax


def _kernel_marks(ax, sockets, host, until, asked):
    """What the kernel said, as marks on the line of `host`: as many as there is room for."""
    room = points_of(ax, 8)
    at = np.arange(0.1, until, max(0.2, room))
    if asked is not None:
        at = np.asarray(asked, float)[np.unique(np.asarray(asked) // room, return_index=True)[1]]
        at = at[at <= until]
    ax.plot(at, [count(sockets, "TIME_WAIT", host, time) for time in at], linestyle="none",
            marker="o" if host == "server" else "s", markersize=4.5, markerfacecolor="white",
            markeredgecolor=COLOURS[host], zorder=4, clip_on=False, label=f"{host}, kernel")


def _share_axes(ax):
    """Set limits that suit all axes which share them."""
    beside, above = (axes.get_siblings(ax) for axes in (ax.get_shared_y_axes(), ax.get_shared_x_axes()))
    first = min(line.get_xdata().min() for member in above for line in member.lines if len(line.get_xdata()))
    last = max(line.get_xdata().max() for member in above for line in member.lines if len(line.get_xdata()))
    top = max([1, *(line.get_ydata().max() for member in beside for line in member.lines)])
    ax.set(xlim=(min(0.0, first), last), ylim=(0, top * 1.25))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    if len(beside) > 1:
        ax.label_outer()


def _name_peak(ax, host, times, values, states):
    """Write `host` and its peak where the peak lasted longest; the client's label below a line that both share."""
    held = np.diff(times) * (values[:-1] == values.max())
    longest, peak, server = held.argmax(), int(values.max()), host == "server"
    x = times[longest] + held[longest] / 2 if peak else times[-1] * (0.6 if server else 0.02)
    below = peak > 0 and not server and count(states, "TIME_WAIT", "server", at=x) == peak
    ax.annotate(f"{host}: {peak:,}", (x, peak), (0, -6 if below else 5), textcoords="offset points", zorder=5,
                color=COLOURS[host], weight="bold", va="top" if below else "bottom",
                ha="center" if peak else "right" if server else "left")
