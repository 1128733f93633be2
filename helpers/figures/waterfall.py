"""The waterfall: one row a connection, requests as bars, probes, FIN and RST, then what is left at each end."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from helpers.connections import keepalive_probes
from helpers.figures.legend import legend
from helpers.figures.style import (
    CENTRE,
    COLOURS,
    SMALL,
    axes_for,
    band,
    in_style,
    kind_of,
    numbers_of,
    plain,
    points_of,
    port_of,
    stays_of,
    text_width,
    time_axis,
)

MOST_BARS = 40
OPEN = ("SYN_SENT", "SYN_RECEIVED", "ESTABLISHED")


@in_style
def waterfall(experiment: object, ax: Axes | None = None, between: tuple[float, float] | None = None) -> Axes:
    """One row a connection: requests as bars, idle line, probes, FIN and RST, then what is left at each end.

    After the first FIN a row has two lanes, the client's above, the server's below. `between`: (from, to) in
    seconds; less than two seconds are drawn in milliseconds. A bar too short to be seen is widened.
    """
    table = _alive(experiment, *(between or (-np.inf, np.inf)))
    ax = axes_for(ax, 1.5 + 0.5 * len(table))
    unit = time_axis(ax, between or _life(experiment))
    states, asked = stays_of(experiment.states, unit), experiment.exchanges.copy()
    asked[["requested", "answered", "finished"]] *= unit
    segments = experiment.segments.assign(time=experiment.segments["time"] * unit, probe=keepalive_probes(
        experiment.capture), letters=experiment.segments["flags"].astype(str))
    for y, (stream, connection) in enumerate(table.iterrows()):
        sent, requests, stays = (rows[rows["stream"] == stream] for rows in (segments, asked, states))
        ended, probes = sent[sent["letters"].str.contains("[FR]")], numbers_of(sent["time"][sent["probe"]])
        close = ended["time"].min() if len(ended) else ax.get_xlim()[1]
        spoke = len(requests) or pd.NA if (sent["length"] > 1).any() else 0
        _life_line(ax, y, sent["time"].min(), connection["established"] * unit, close, spoke)
        edge = _request_bars(ax, y, requests, sent["time"].min(), close)
        seen = edge + points_of(ax, 4)      # a widened bar hides what came at once after it: that is drawn after it
        for stay in stays[~stays["state"].isin(OPEN)].itertuples():
            _after_fin(ax, y, stay._replace(since=max(stay.since, seen)), [*probes, edge + points_of(ax, 6)])
        ax.plot(probes, np.full(len(probes), y), "|", markersize=15, markeredgewidth=2.2, zorder=6,
                color=COLOURS["probe"], gid=f"{stream} probe")
        _ending_marks(ax, y, ended, connection["closer"], seen)
    ax.set_yticks(range(len(table)), [port_of(name) for name in table["client"]])
    ax.set(ylim=(len(table) - 0.45, -0.55), ylabel="client port")
    legend(ax, set(asked["target"][asked["stream"].isin(table.index)].map(kind_of)))
    return ax


def _alive(experiment, first, last):
    """The connections that have segments or states between `first` and `last`, in order of opening."""
    times = experiment.segments.groupby("stream")["time"].agg(["min", "max"])
    until = experiment.states.groupby("stream")["until"].max().reindex(times.index)
    alive = times[(times["min"] <= last) & (np.fmax(times["max"], numbers_of(until)) >= first)]
    return experiment.connections.loc[alive.sort_values("min", kind="stable").index]


def _life(experiment):
    """From the first segment to the end of the last state, with a small margin."""
    until = numbers_of(experiment.states["until"])
    first, last = experiment.segments["time"].min(), max([experiment.capture.end, *until[np.isfinite(until)]])
    return first - 0.012 * (last - first), last + 0.012 * (last - first)


def _life_line(ax, y, begin, established, close, requests):
    """Draw a connection up to its first FIN or RST; one without a request stands out."""
    unused = pd.notna(requests) and not requests
    text = "cannot tell" if pd.isna(requests) else f"{requests or 'no'} request{'s' * (requests > 1)}"
    colour = COLOURS["unused" if unused else "idle"]
    ax.plot([begin, close], [y, y], color=colour, linewidth=2.5, linestyle=(0, (3, 1.5)) if unused else "-",
            solid_capstyle="butt", zorder=1)
    ax.plot([begin, begin if pd.isna(established) else established], [y, y], color=colour, linewidth=7,
            marker="s", markersize=6, markevery=[0], solid_capstyle="butt", zorder=1)
    ax.text(1.01, y, text, transform=ax.get_yaxis_transform(), va="center", size=10,
            weight="bold" if unused else "normal", color=colour if unused else "black")
    if unused:
        ax.axhspan(y - 0.45, y + 0.45, color=COLOURS["unused row"], linewidth=0, zorder=0)


def _after_fin(ax, y, stay, keep_clear):
    """What one end is left with after the first FIN, in its own lane."""
    end = stay.host if pd.notna(stay.host) else f"port {port_of(stay.local)}"
    upper = end == "client" or (end != "server" and stay.local < stay.peer)
    texts = [f"{stay.state}, {end}", stay.state]
    texts = [f"{texts[0]}, {stay.lasts}", *texts] if stay.lasts else texts
    band(ax, stay, y - 0.4 * upper, 0.4, texts, keep_clear, edgecolor=COLOURS.get(end, COLOURS["edge"]),
          linewidth=1.6 if stay.state == "TIME_WAIT" else 0.5, gid=f"{stay.stream} {end} {stay.state}")


def _request_bars(ax, y, requests, opened, close):
    """Draw requests as bars, none too thin to be seen, named where there is room; returns the last's end.

    What comes after the first `MOST_BARS` requests shares one bar.
    """
    low, high = ax.get_xlim()
    edge, (requests, others) = -np.inf, (requests.iloc[:MOST_BARS], requests.iloc[MOST_BARS:])
    begins = [*numbers_of(requests["requested"]), min(close - points_of(ax, 6), high)]
    for begin, after, row in zip(begins, begins[1:], requests.itertuples()):
        last = next((time for time in (row.finished, row.answered) if pd.notna(time)), begin)
        begin = max(begin, edge)
        edge = max(begin + points_of(ax, 4), last)
        ax.add_patch(Rectangle(
            (begin, y - 0.3), edge - begin, 0.6, facecolor=COLOURS[kind_of(row.target)], linewidth=0.6,
            edgecolor=COLOURS["edge"], zorder=4, gid=f"{row.stream} {row.nth} {plain(row.target)}"))
        if begin < low or edge > high or ax.get_xlabel() != "Time (ms)":
            continue
        name = plain(str(row.target).rpartition("/")[2] or "/", 16)
        needs, look = points_of(ax, text_width(name) + 5), dict(textcoords="offset points", va="bottom", **SMALL)
        if needs < edge - begin:
            ax.text((begin + edge) / 2, y, name, **CENTRE, **SMALL)
        elif needs < after - edge:
            ax.annotate(name, (edge, y), (2, 4), **look)
        elif needs < opened - low:
            ax.annotate(name, (opened, y), (-6, 0), ha="right", **look | {"va": "center"})
    return _other_requests(ax, y, others, edge) if len(others) else edge


def _other_requests(ax, y, requests, edge):
    """Draw `requests` as one bar behind `edge`, with their number where there is room; returns its end."""
    times = np.r_[numbers_of(requests["finished"]), numbers_of(requests["requested"])]
    begin, high = max(edge, np.nanmin(times)), ax.get_xlim()[1]
    end = max(begin + points_of(ax, 4), min(np.nanmax(times), high))
    ax.add_patch(Rectangle((begin, y - 0.3), end - begin, 0.6, facecolor=COLOURS["quiet"], linewidth=0.6, alpha=0.6,
                           edgecolor=COLOURS["edge"], zorder=4, gid=f"{requests['stream'].iloc[0]} other requests"))
    text = f"{len(requests):,} more"
    if points_of(ax, text_width(text) + 5) < end - begin and end <= high:
        ax.text((begin + end) / 2, y, text, color="white", **CENTRE, **SMALL)
    return end


def _ending_marks(ax, y, ended, closer, seen):
    """Mark the first FIN and RST of each end, none before `seen`, in its lane; an answering FIN is hollow."""
    for letter, name, marker in (("F", "FIN", "o"), ("R", "RST", "X")):
        sent = ended[ended["letters"].str.contains(letter)].drop_duplicates(["src", "sport"])
        for row in sent.itertuples():
            lane = {"client": -0.2, "server": 0.2}.get(row.host, 0)
            colour = COLOURS.get(row.host, COLOURS["quiet"])
            first = name == "RST" or pd.isna(closer) or closer in (row.host, "both")
            ax.plot([max(row.time, seen)], [y + lane], marker, color=colour, zorder=7,
                    markerfacecolor=colour if first else "white", markersize=7.5, markeredgewidth=1.5,
                    gid=f"{row.stream} {row.host} {name}")
