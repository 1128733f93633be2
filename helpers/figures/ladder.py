"""The ladder: one connection segment by segment, who sent what and when, with both ends' states down its sides."""

from http import HTTPStatus

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from helpers.captures import ACK, FIN, RST, SYN, Capture
from helpers.connections import HOSTS, end_events, keepalive_probes, segment_flow
from helpers.exchanges import signals
from helpers.figures.style import (
    CENTRE,
    COLOURS,
    SLANT,
    STATE_COLOURS,
    axes_for,
    duration,
    in_style,
    ink,
    numbers_of,
    plain,
    stays_of,
    widest,
)

FLAG_NAMES = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "AE")
LIFELINES, BAND = (0.31, 0.86), 0.14
GAP = 1.0
LONGEST_LADDER, MOST_SPOKEN = 60, 3


@in_style
def ladder(capture: Capture, stream: int, ax: Axes | None = None, frames: slice | None = None,
           exchanges: pd.DataFrame | None = None, states: pd.DataFrame | None = None) -> Axes:
    """Who sent what, and when, on one connection, with both ends' states down the sides; one row a segment.

    `frames`: only these frame numbers (a slice, both ends included, or a collection). `exchanges`: puts
    request lines and statuses on their rows, and `close_notify`, GOAWAY and RST_STREAM where they can be read.
    `states`: draws the state of each end. A run of data segments, or of probes, shares a row. The distance between
    rows doesn't show time; the margin does. Sequence numbers are relative, as Wireshark shows them.
    """
    rows = ladder_rows(capture, stream, frames, exchanges)
    stays = None if states is None else stays_of(states[states["stream"] == stream], 1)
    later = stays is not None and len(rows) and (stays["until"] > rows["until"].max()).any()
    bottom = rows["y"].max() + (2.2 if later else 1) if len(rows) else 1
    ax = axes_for(ax, 0.36 * (bottom + 2.2))
    ax.set(xlim=(0, 1), ylim=(bottom, -1.8))
    ax.axis("off")
    ends = end_events(capture).loc[stream]
    for end, x in zip(HOSTS, LIFELINES):
        ax.plot([x, x], [-0.5, bottom], color=COLOURS["idle"], linewidth=1.2, zorder=1)
        name = end if pd.notna(ends["host"][end]) else "one end"
        ax.text(x, -1.05, f"{name}\n{ends['local'][end]}", color=COLOURS[end], weight="bold", size=10.5,
                linespacing=1.1, **CENTRE)
        if stays is not None and len(rows):
            _ladder_states(ax, rows, stays[stays["local"] == ends["local"][end]], end, bottom)
    for x, name in ((0.035, "No."), (0.155, "Time (s)")):
        ax.text(x, -0.8, name, color=COLOURS["quiet"], ha="right", va="center", size=9)
    for row in rows.itertuples():
        _ladder_row(ax, row)
    return ax


def ladder_rows(capture: Capture, stream: int, frames: slice | None = None,
                exchanges: pd.DataFrame | None = None) -> pd.DataFrame:
    """The rows of a ladder, and where each begins (`y`) and ends (`lands`).

    Other columns: `frame`, `time`, `until`, `sender`, `label`, `http`, `style`, `gap` (seconds before it).
    """
    flow = segment_flow(capture, stream)
    flow = _as_wireshark(flow).assign(probe=keepalive_probes(capture).loc[flow.index].to_numpy())
    if frames is not None:
        flow = flow.loc[frames] if isinstance(frames, slice) else flow[flow.index.isin(frames)]
    spoken = {} if exchanges is None else _spoken(*(
        table[table["stream"] == stream] for table in (exchanges, signals(capture))))
    parts, gap = list(_parts(flow)), None
    if (left_out := len(parts) - LONGEST_LADDER) > 0:
        begin, end = LONGEST_LADDER * 2 // 3, LONGEST_LADDER * 2 // 3 + left_out
        gap = _left_out(flow, parts[begin], parts[end], left_out + 1)
        parts = parts[:begin] + parts[end + 1:]
    told = [_row(flow.iloc[part], spoken) for part in parts]
    rows = pd.DataFrame(told if gap is None else [*told[:begin], gap, *told[begin:]],
                        columns=["frame", "time", "until", "sender", "label", "http", "style"])
    rows["gap"] = (rows["time"] - rows["until"].shift()).where(lambda gap: gap > GAP)
    rows["y"] = (1 + 0.3 * (rows["http"] != "") + rows["gap"].notna()).cumsum() - 1
    rows["lands"] = rows["y"] + SLANT
    fins = rows[rows["style"] == "fin"].drop_duplicates("sender")
    if len(fins) == 2 and end_events(capture).loc[stream]["active"].all():
        rows.loc[fins.index[0], "lands"] = fins["y"].iloc[1] + SLANT / 2
    return rows


def _as_wireshark(flow):
    """One stream's `flow` with `shown` (seq) and `ack` as Wireshark counts: from 1 where there was no SYN."""
    base = {end: sent["raw_seq"].iloc[0] - sent["seq"].iloc[0] - (not sent["began"].iloc[0])
            for end, sent in flow.groupby("end", observed=True)}
    for end in set(HOSTS) - set(base):
        base[end] = flow["raw_ack"].iloc[0] - 1
    own = flow["end"].astype(str)
    other = own.map(dict(zip(HOSTS, HOSTS[::-1])))
    seq = (flow["raw_seq"] - own.map(base)) % (1 << 32)
    return flow.assign(ack=(flow["raw_ack"] - other.map(base)) % (1 << 32), shown_end=seq + flow["length"],
                       again=(flow["seq_end"] > flow["seq"]) & (flow["seq_end"] <= flow["next"]), shown=seq)


def _parts(flow):
    """The positions in `flow` of each row's segments: three or more data segments in a run, or probes, share one."""
    bare = flow["flags"] & (SYN | FIN | RST) == 0
    kind = np.select([~bare, flow["probe"], flow["length"] > 0], ["control", "probe", "data"], "ack").tolist()
    end, time, at = flow["end"].tolist(), flow["time"].tolist(), 0
    while at < len(kind):
        run, own, others = at + 1, [at], []
        while kind[at] in ("data", "probe") and run < len(kind) and (
                kind[run] == kind[at] if end[run] == end[at] else kind[run] == "ack") and (
                kind[at] == "probe" or time[run] - time[run - 1] < GAP):
            (own if end[run] == end[at] else others).append(run)
            run += 1
        if len(own) < 3:
            own, others = [at], []
        yield own
        if others:
            yield others
        at += len(own) + len(others)


def _left_out(flow, first, last, many):
    """The row that stands for `many` rows left out, from the part `first` to `last`."""
    frame, time, until = flow.index[first[0]], flow["time"].iloc[first[0]], flow["time"].iloc[last[-1]]
    return [frame, time, until, None, f"… {many:,} rows left out …", "", "left out"]


def _spoken(exchanges, signals):
    """For each end, in order: when it sent something, and what: the row in `exchanges`, or the text of a signal."""
    spoken, rows = {}, exchanges.reset_index(drop=True)
    for end, name, said in zip(HOSTS, ("requested", "answered"), ("method", "status")):
        part, own = rows[rows[name].notna() & rows[said].notna()], signals[signals["host"] == end]
        times, what = np.r_[numbers_of(part[name]), numbers_of(own["time"])], [*part.index, *own["signal"]]
        order = np.argsort(times, kind="stable")
        spoken[end] = times[order], [what[place] for place in order], rows
    return spoken


def _http(spoken, end, since, until):
    """The request lines, or statuses, of one `end` from `since` to `until`: the first ones, and how many more."""
    times, what, rows = spoken[end]
    first, stop = np.searchsorted(times, since, "left"), np.searchsorted(times, until, "right")
    tell = _request if end == "client" else _status
    told = [item if isinstance(item, str) else tell(rows.loc[item])
            for item in what[first:min(stop, first + MOST_SPOKEN)]]
    more = [f"and {stop - first - len(told):,} more"] if stop - first > len(told) else []
    return " · ".join([*told, *more])


def _request(row):
    return f"{plain(row.method)} {plain(row.target)}"


def _status(row):
    phrase = f" {HTTPStatus(row.status).phrase}" if row.status in set(HTTPStatus) else ""
    return f"{row.status}{phrase}" + ("" if pd.isna(row.response_bytes) else f", {row.response_bytes:,} bytes")


def _row(part, spoken):
    """One row of the ladder from the segments in `part`, all of one sender."""
    first, last, many = part.iloc[0], part.iloc[-1], len(part)
    http = _http(spoken, first["end"], first["time"], last["time"]) if spoken and first["length"] else ""
    style = "reset" if first["flags"] & RST else "fin" if first["flags"] & FIN else \
        "probe" if first["probe"] else "plain"
    if many == 1:
        label = _segment_label(first)
    elif first["probe"]:
        label = f"{many} keep-alive probes, one every {duration((last['time'] - first['time']) / (many - 1))}"
    elif first["length"]:
        size = f"{part['length'].sum():,} bytes"
        label = f"{many} data segments, {size}, seq={first['shown']} to {last['shown_end']}"
    else:
        label = f"{many} ACKs, the last ack={last['ack']}"
    return [part.index[0], first["time"], last["time"], first["end"], label, http, style]


def _segment_label(row):
    """A segment in Wireshark's terms."""
    text = ", ".join(name for bit, name in enumerate(FLAG_NAMES) if row["flags"] >> bit & 1) or "no flags"
    text += f" seq={row['shown']}" + f" ack={row['ack']}" * bool(row["flags"] & ACK)
    text += f" len={row['length']}" * bool(row["length"])
    return text + ("  (keep-alive probe)" if row["probe"] else "  (again)" * bool(row["again"]))


def _ladder_row(ax, row):
    """The arrow of one row with its texts, and the break before it."""
    centre, middle = np.mean(LIFELINES), (row.y + row.lands) / 2
    if row.gap > 0:
        _ladder_break(ax, row.y - 0.5 - 0.55 * (row.http != ""), f"{duration(row.gap)} later")
    look = CENTRE | {"size": 9.5}
    if row.style == "left out":
        ax.text(centre, middle, row.label, style="italic", color=COLOURS["quiet"], **look)
        return
    begin, end = LIFELINES if row.sender == "client" else LIFELINES[::-1]
    colour, strong = COLOURS[row.sender], row.style in ("fin", "reset")
    line = {"probe": (0, (2, 2)), "reset": (0, (6, 2))}.get(row.style, "-")
    ax.annotate("", (end, row.lands), (begin, row.y), zorder=3, arrowprops={
        "arrowstyle": "-|>", "color": colour, "linewidth": 2.2 if strong else 1.4, "linestyle": line,
        "mutation_scale": 13, "shrinkA": 0, "shrinkB": 0})
    near = 0.5 if row.lands == row.y + SLANT else 0.25
    ax.text(begin + near * (end - begin), row.y + near * (row.lands - row.y), row.label, zorder=4,
            weight="bold" if strong else "normal", **look,
            bbox={"boxstyle": "square,pad=0.12", "facecolor": "white", "edgecolor": "none"})
    if row.http:
        ax.text(centre, middle - 0.62, row.http, weight="bold", color=colour, zorder=5, **look)
    for x, text, shade in ((0.035, f"{row.frame}", COLOURS["quiet"]), (0.155, f"{row.time:.6f}", "black")):
        ax.text(x, row.y + SLANT / 4, text, ha="right", va="center", size=9, color=shade)


def _ladder_break(ax, y, text):
    """Cut through lifelines and bands, and say how much time passed here."""
    x = np.linspace(LIFELINES[0] - BAND, LIFELINES[1] + BAND, 200)
    wave = y + 0.09 * np.sin(x * 2 * np.pi / 0.028)
    ax.fill_between(x, wave - 0.13, wave + 0.13, color="white", linewidth=0, zorder=6)
    for side in (-0.13, 0.13):
        ax.plot(x, wave + side, color="#999999", linewidth=0.8, zorder=7)
    ax.text(np.mean(LIFELINES), y, text, size=10.5, weight="bold", color=COLOURS["quiet"], zorder=8, **CENTRE,
            bbox={"boxstyle": "square,pad=0.35", "facecolor": "white", "edgecolor": "none"})


def _ladder_states(ax, rows, stays, end, bottom):
    """The states of one end as named bands beside its lifeline."""
    left = LIFELINES[0] - BAND if end == "client" else LIFELINES[1]
    look = CENTRE | {"size": 8.5, "zorder": 4}
    for stay in stays.itertuples():
        top, low = (_ladder_place(rows, time, end, bottom) for time in (stay.since, stay.until))
        if low <= top:
            continue
        colour = STATE_COLOURS.get(stay.state, "white")
        ax.add_patch(Rectangle((left, top), BAND, low - top, facecolor=colour, edgecolor="white", linewidth=1,
                               zorder=2, gid=f"{end} {stay.state}"))
        free = widest(top, low, rows["y"][rows["gap"].notna()] - 0.5)
        lasts = f"\n{stay.lasts}" if np.ptp(free) > 1.1 and GAP <= stay.until - stay.since < np.inf else ""
        if np.ptp(free) >= 0.45:
            ax.text(left + BAND / 2, np.mean(free), stay.state + lasts, color=ink(colour), **look,
                    weight="bold" if stay.state == "TIME_WAIT" else "normal")
        forgotten = not ((rows["time"] <= stay.until) & (stay.until <= rows["until"])).any()
        if stay.Index == stays.index[-1] and forgotten and low < bottom:
            ax.text(left + BAND / 2, low + 0.7, "no socket left", color=COLOURS["quiet"], **look)


def _ladder_place(rows, time, end, bottom):
    """The height of `time` on the ladder, for `end`: where the arrow of that time leaves it, or reaches it."""
    if time < rows["time"].iloc[0]:
        return rows["y"].iloc[0] - 0.5
    if time > rows["until"].max():
        return bottom
    row = rows[rows["time"] <= time].iloc[-1]
    if time <= row["until"]:
        answers = rows["y"][(rows["sender"] == end) & (rows["y"] > row["y"])]
        return row["y"] if row["sender"] == end else min([row["lands"], *answers[:1]])
    return (row["lands"] + rows["y"].iloc[row.name + 1]) / 2 if row.name + 1 < len(rows) else bottom
