"""The same page over several protocols: their loads on one time axis, and the bill of each."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from helpers.connections import HOSTS, handshakes
from helpers.figures.style import COLOURS, axes_for, in_style, kind_of, numbers_of, plain, port_of
from helpers.quic import quic_connections, quic_exchanges

TIMES = ["requested", "answered", "finished"]
HANDSHAKES = {"TCP handshake": COLOURS["edge"], "TLS or QUIC handshake": COLOURS["handshake"]}
THINNEST = 0.004    # of the axis' width: what is shorter is drawn so wide
COSTS = ("connections", "round trips", "packets", "TIME_WAIT")


def load_rows(experiment: object, until: float = np.inf) -> list[tuple]:
    """The connections of a page load: (name, opened, established, ready, requests) of each, in order of opening.

    Times are seconds since the first was opened; NaN: the capture doesn't show it. `established`: TCP's handshake is
    over. `ready`: the client may send a request; over QUIC, when it sent the first. `requests`: rows of `exchanges`.
    Connections that were opened later than `until` are left out.
    """
    rows = sorted([*_over_tcp(experiment), *_over_quic(experiment)], key=lambda row: row[1])
    start = rows[0][1] if rows else 0
    return [(name, *(time - start for time in times), asked.assign(**{time: asked[time] - start for time in TIMES}))
            for name, *times, asked in rows if times[0] - start <= until]


def _over_tcp(experiment):
    tls, asked = handshakes(experiment.capture)["round_trips"], experiment.exchanges
    for stream, row in experiment.connections.iterrows():
        sent = experiment.segments[experiment.segments["stream"] == stream]
        opened, established = numbers_of(row[["opened", "established"]])
        ready = _ready(sent[sent["length"] > 1], tls[stream]) if stream in tls.index else established
        yield port_of(row["client"]), opened, established, ready, asked[asked["stream"] == stream]


def _ready(data, round_trips):
    """When the client had `round_trips` answers of TLS and spoke again; `data`: the segments of a stream that hold any.

    A length of 1 may be a keep-alive probe: it counts as none.
    """
    host = data["host"].astype(str)
    turn = (host.eq("client") & host.shift().eq("server")).cumsum()
    after = data["time"][turn >= round_trips] if pd.notna(round_trips) else []
    return float(after.iloc[0]) if len(after) else np.nan


def _over_quic(experiment):
    asked = quic_exchanges(experiment.capture)
    for stream, row in quic_connections(experiment.capture).iterrows():
        own = asked[asked["stream"] == stream]
        ready = numbers_of(own["requested"]).min() if len(own) else np.nan
        yield port_of(row["client"]), float(row["opened"]), np.nan, ready, own


@in_style
def page_loads(loads: Mapping[str, object], ax: Axes | None = None, until: float = 0.2) -> Axes:
    """Several loads of a page on one time axis (ms), each from its first segment: a row for each connection.

    `loads`: an `Experiment` by its name, which stands above its rows. A row has the handshake of TCP, that of TLS or
    QUIC, the idle line, and each request as a bar; a bar too short to be seen is widened. `until`: seconds.
    """
    tables = {name: load_rows(experiment, until) for name, experiment in loads.items()}
    ax = axes_for(ax, 1.2 + sum(0.5 + 0.3 * len(rows) for rows in tables.values()))
    ax.set_xlim(0, until * 1000)
    y, places, names, kinds = 0.0, [], [], set()
    for name, rows in tables.items():
        ax.text(0.004, y, plain(name, 90), transform=ax.get_yaxis_transform(), weight="bold", va="center", size=10.5)
        for row in rows:
            y += 1
            places, names = [*places, y], [*names, row[0]]
            kinds |= _load_row(ax, y, *row)
        y += 1.4
    ax.set(ylim=(y - 0.7, -0.7), xlabel="Time since the first segment (ms)", ylabel="client port")
    ax.set_yticks(places, names)
    boxes = {**HANDSHAKES, **{kind: COLOURS[kind] for kind in ("page", "image", "other") if kind in kinds}}
    ax.legend(handles=[Rectangle((0, 0), 1, 1, facecolor=colour, edgecolor=COLOURS["edge"], linewidth=0.6, label=name)
                       for name, colour in boxes.items()], loc="upper center", bbox_to_anchor=(0.5, -0.09),
              ncols=len(boxes), fontsize=9.5)
    return ax


def _load_row(ax, y, name, opened, established, ready, asked):
    """One connection: the kinds of what was requested on it."""
    right = ax.get_xlim()[1] / 1000
    ax.plot([opened * 1000, right * 1000], [y, y], color=COLOURS["idle"], linewidth=1.2, zorder=1)
    for (part, colour), since, end in zip(HANDSHAKES.items(), (opened, np.fmax(opened, established)),
                                          (established, ready)):
        if end > since and since < right:
            _load_bar(ax, y, since, end, colour, 0.2, f"{name} {part}")
    for row in asked[asked["requested"] < right].itertuples():
        end = next((time for time in (row.finished, row.answered) if pd.notna(time)), row.requested)
        _load_bar(ax, y, row.requested, end, COLOURS[kind_of(row.target)], 0.36, f"{name} {plain(row.target)}")
    return set(asked["target"].map(kind_of))


def _load_bar(ax, y, since, until, colour, half, gid):
    low, high = (edge / 1000 for edge in ax.get_xlim())
    width = max(min(until, high) - since, THINNEST * (high - low))
    ax.add_patch(Rectangle((since * 1000, y - half), width * 1000, 2 * half, facecolor=colour, gid=gid,
                           edgecolor=COLOURS["edge"], linewidth=0.5, zorder=3))


@in_style
def page_bill(table: pd.DataFrame, axes: Sequence[Axes]) -> Sequence[Axes]:
    """What one page costs in each way that it travels: a row of `table` for each way, a panel for each cost.

    Columns: `connections`, `round trips` (of handshakes), `packets`, and `client` and `server`: the TIME_WAITs at each
    end. `axes`: four, side by side.
    """
    places = np.arange(len(table))
    for ax, cost in zip(axes, COSTS):
        parts = HOSTS if cost == "TIME_WAIT" else (cost,)
        left = np.zeros(len(table))
        for part in parts:
            values = numbers_of(table[part])
            ax.barh(places, values, 0.7, left=left, color=COLOURS.get(part, COLOURS["quiet"]), label=part)
            left += values
        for place, total in zip(places, left):
            ax.annotate(f"{total:,.0f}", (total, place), (4, 0), textcoords="offset points", va="center", size=10.5)
        ax.set(xlim=(0, max(1.0, left.max()) * 1.25), ylim=(len(table) - 0.5, -0.5))
        ax.set_title(cost, size=11)
        ax.tick_params(length=0, labelbottom=False)
        ax.spines["bottom"].set_visible(False)
        ax.set_yticks(places, table.index.astype(str) if ax is axes[0] else [""] * len(table))
    axes[-1].legend(loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=2, fontsize=9.5, handlelength=1)
    return axes
