"""The course's figures: each function draws tables on an `ax` (None: the current one) and returns the `Axes`.

One meaning has one colour, here at the top. Text from a capture is shown as it is, never as mathematics.
"""

import functools
import io
import textwrap
from http import HTTPStatus

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib.colors import to_rgb
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from helpers.captures import ACK, FIN, RST, SYN
from helpers.connections import HOSTS, end_events, keepalive_probes, segment_flow
from helpers.states import count

COLOURS = {
    "client": "#005B9A", "server": "#D55E00",
    "page": "#009E73", "image": "#7FC4EE", "other": "#F0E442",
    "probe": "#1A1A1A", "idle": "#BBBBBB", "quiet": "#666666", "edge": "#333333",
    "unused": "#A01C1C", "unused row": "#FBE3E0",
    "long": "#3B3B6D", "short": "#C9A227", "article": "#DADADA"}
STATE_COLOURS = {
    "SYN_SENT": "#DDDDDD", "SYN_RECEIVED": "#DDDDDD", "ESTABLISHED": "#E6ECE4", "FIN_WAIT_1": "#D6D6D6",
    "FIN_WAIT_2": "#ABABAB", "CLOSING": "#C4C4C4", "CLOSE_WAIT": "#E8DDB5", "LAST_ACK": "#D9CB96",
    "TIME_WAIT": "#8A2B78"}
CLOSERS = {"client": COLOURS["client"], "both": STATE_COLOURS["TIME_WAIT"], "server": COLOURS["server"]}
VERDICTS = {"stands": "#00714F", "stood then": "#3B8EC2", "stands only if": "#B58B00", "does not stand": "#A01C1C"}
RUNS = {"o": "#332288", "s": "#88CCEE", "D": "#117733", "^": "#DDCC77", "v": "#AA4499", "P": "#999999"}
LINES = ("#332288", "#D55E00", "#117733", "#88CCEE", "#AA4499", "#DDCC77", "#666666", "#CC6677")
DASHES = ("-", (0, (5, 1.5)), (0, (2, 1)), "-.")
STYLE = {
    "figure.figsize": (9, 4), "figure.dpi": 110, "savefig.dpi": 110, "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans", "font.size": 11, "axes.titlesize": 13, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.labelsize": 11, "axes.labelcolor": "#333333", "legend.frameon": False,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#888888", "xtick.labelsize": 10,
    "ytick.labelsize": 10, "text.usetex": False, "text.parse_math": False}

KINDS = {"page": "page", "image": "image", "other": "other"}
IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".svg", ".avif")
FLAG_NAMES = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "AE")
OPEN = ("SYN_SENT", "SYN_RECEIVED", "ESTABLISHED")
LIFELINES, BAND = (0.31, 0.86), 0.14
SLANT, INSTANT = 0.5, 0.5
GAP = 1.0
LONGEST_LADDER = 60
CENTRE, SMALL = {"ha": "center", "va": "center"}, {"size": 9, "zorder": 5}


def _in_style(function):
    """`function`, drawing in the course's style."""
    @functools.wraps(function)
    def styled(*args, **kwargs):
        with plt.rc_context(STYLE):
            return function(*args, **kwargs)
    return styled


@_in_style
def figure(height=4.0, width=9.0, **subplots):
    """A new figure and its axes, as `plt.subplots` gives them, in the course's style; sizes in inches."""
    return plt.subplots(figsize=(width, height), **subplots)


@_in_style
def show(fig, alt, title=None):
    """Display `fig` (a figure, or axes of it) once and close it.

    `alt`: what it shows, in words: the PNG's alternative text and the output's plain text. `title`: its
    message, written above all its axes.
    """
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

    @_in_style
    def _repr_png_(self):
        png = io.BytesIO()
        self.fig.savefig(png, format="png", bbox_inches="tight", metadata={"Software": None})
        return png.getvalue(), {"alt": self.alt}


# Words and measures

def plain(text, longest=40):
    """`text` fit for a figure: what can't be printed is escaped, and the middle of a long text left out."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    return text if len(text) <= longest else f"{text[:longest * 2 // 3]}…{text[1 - longest // 3:]}"


def duration(seconds):
    """`seconds` in words of three digits: `65.0 s`, `12.3 ms`, `85 µs`."""
    for size, unit in ((1, "s"), (1e-3, "ms")):
        if seconds >= size * 0.9995:
            return f"{seconds / size:.{max(0, 2 - int(np.log10(seconds / size * 1.0005)))}f} {unit}"
    return f"{seconds * 1e6:.0f} µs"


def kind_of(target):
    """What a request's target names: `page`, `image` or `other` (the favicon, or anything else)."""
    path = str(target).split("?")[0].lower()
    return "image" if path.endswith(IMAGES) else "page" if path.endswith(("/", ".html", ".htm")) else "other"


def _port(socket):
    """The port of `address:port`; `?` where it is not known."""
    return "?" if pd.isna(socket) else str(socket).rpartition(":")[2]


def _numbers(column):
    return column.to_numpy(float, na_value=np.nan)


def _axes(ax, height):
    """`ax`; None: the current axes, or new ones in a figure `height` inches high where there is none yet."""
    if ax is None and not plt.get_fignums():
        plt.figure(figsize=(9, height))
    return plt.gca() if ax is None else ax


def _points(ax, points):
    """How many data units of the x axis `points` (1/72 inch) are."""
    return points / 72 * np.ptp(ax.get_xlim()) / (ax.figure.get_size_inches()[0] * ax.get_position().width)


@functools.cache
def _width(text, weight="normal"):
    """The width of a 9-point label in points."""
    font = FontProperties(family="DejaVu Sans", weight=weight)
    return TextPath((0, 0), text, size=9, prop=font).get_extents().width


def _time_axis(ax, between):
    """Set the x axis to `between` seconds, or around them; returns units per second: 1000 (ms) in a short window, else 1."""
    between = between if between[1] > between[0] else (between[0] - INSTANT, between[0] + INSTANT)
    unit = 1000 if between[1] - between[0] < 2 else 1
    ax.set(xlim=(between[0] * unit, between[1] * unit), xlabel="Time (ms)" if unit == 1000 else "Time (s)")
    ax.tick_params(axis="y", length=0)
    return unit


def _stays(states, unit):
    """`states` in units of the axis, without end where the capture shows none, and `lasts` in words."""
    since, until = _numbers(states["since"]), _numbers(states["until"])
    lasts = ["" if np.isnan(time) else f"{round(time, 1):g} s" for time in until - since]
    return states.assign(since=np.nan_to_num(since * unit, nan=-np.inf), lasts=lasts,
                         until=np.nan_to_num(until * unit, nan=np.inf))


def _band(ax, stay, y, height, texts, keep_clear=(), **look):
    """Draw a stay as a band, with the first of `texts` that fits between the times in `keep_clear`."""
    begin, end = np.clip([stay.since, stay.until], *ax.get_xlim())
    if end - begin < _points(ax, 1):
        return
    colour = STATE_COLOURS.get(stay.state, "white")
    ax.add_patch(Rectangle((begin, y), end - begin, height, facecolor=colour, zorder=2, **look))
    low, high = _widest(begin, end, keep_clear)
    weight = "bold" if stay.state == "TIME_WAIT" else "normal"
    for text in texts:
        if _points(ax, _width(text, weight) + 14) < high - low:
            ax.text((low + high) / 2, y + 0.53 * height, text, size=9, weight=weight, color=_ink(colour),
                    zorder=3, **CENTRE)
            return


def _widest(begin, end, cuts):
    """The widest piece of what lies between `begin` and `end`, cut at `cuts`."""
    cuts = np.unique(np.clip([begin, *cuts, end], begin, end))
    return max(zip(cuts, cuts[1:]), key=np.ptp)


def _ink(colour):
    """Black or white, whichever can be read on `colour`."""
    return "white" if np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) < 0.5 else "black"


# The ladder

@_in_style
def ladder(capture, stream, ax=None, frames=None, exchanges=None, states=None):
    """Who sent what, and when, on one connection, with both ends' states down the sides; one row a segment.

    `frames`: only these frame numbers (a slice, both ends included, or a collection). `exchanges`: puts
    request lines and statuses on their rows. `states`: draws the state of each end. A run of data segments,
    or of probes, shares a row. The distance between rows doesn't tell time, the margin does. Sequence numbers
    are relative, as Wireshark shows them.
    """
    rows = ladder_rows(capture, stream, frames, exchanges)
    stays = None if states is None else _stays(states[states["stream"] == stream], 1)
    later = stays is not None and len(rows) and (stays["until"] > rows["until"].max()).any()
    bottom = rows["y"].max() + (2.2 if later else 1) if len(rows) else 1
    ax = _axes(ax, 0.36 * (bottom + 2.2))
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


def ladder_rows(capture, stream, frames=None, exchanges=None):
    """The rows of a ladder, and where each begins (`y`) and ends (`lands`).

    Other columns: `frame`, `time`, `until`, `sender`, `label`, `http`, `style`, `gap` (seconds before it).
    """
    flow = segment_flow(capture)
    flow = _as_wireshark(flow[flow["stream"] == stream]).assign(probe=keepalive_probes(capture))
    if frames is not None:
        flow = flow.loc[frames] if isinstance(frames, slice) else flow[flow.index.isin(frames)]
    spoken = [] if exchanges is None else _spoken(exchanges[exchanges["stream"] == stream])
    rows = pd.DataFrame([_row(part, spoken) for part in _parts(flow)],
                        columns=["frame", "time", "until", "sender", "label", "http", "style"])
    if (left_out := len(rows) - LONGEST_LADDER) > 0:
        cut = slice(LONGEST_LADDER * 2 // 3, LONGEST_LADDER * 2 // 3 + left_out)
        rows.loc[cut.start, ["until", "sender", "label", "http", "style"]] = [
            rows["until"][cut.stop], None, f"… {left_out + 1} rows left out …", "", "left out"]
        rows = rows.drop(rows.index[cut.start + 1:cut.stop + 1]).reset_index(drop=True)
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
    """`flow` in parts that have a row each: three or more data segments in a run, or probes, share one."""
    bare = flow["flags"] & (SYN | FIN | RST) == 0
    kind = np.select([~bare, flow["probe"], flow["length"] > 0], ["control", "probe", "data"], "ack")
    end, time = flow["end"].to_numpy(), flow["time"].to_numpy()
    at = 0
    while at < len(flow):
        run = at + 1
        while kind[at] in ("data", "probe") and run < len(flow) and (
                kind[run] == kind[at] if end[run] == end[at] else kind[run] == "ack") and (
                kind[at] == "probe" or time[run] - time[run - 1] < GAP):
            run += 1
        part = flow.iloc[at:run]
        own = part[part["end"] == end[at]]
        if len(own) < 3:
            own, part = flow.iloc[at:at + 1], flow.iloc[at:at + 1]
        yield own
        if len(own) < len(part):
            yield part[part["end"] != end[at]]
        at += len(part)


def _spoken(exchanges):
    """(time, end, text) of each request line and each status."""
    texts = []
    for row in exchanges.itertuples():
        texts.append((row.requested, "client", f"{plain(row.method)} {plain(row.target)}"))
        if pd.notna(row.status):
            phrase = f" {HTTPStatus(row.status).phrase}" if row.status in set(HTTPStatus) else ""
            size = "" if pd.isna(row.response_bytes) else f", {row.response_bytes:,} bytes"
            texts.append((row.answered, "server", f"{row.status}{phrase}{size}"))
    return [text for text in texts if pd.notna(text[0])]


def _row(part, spoken):
    """One row of the ladder from the segments in `part`, all of one sender."""
    first, last, many = part.iloc[0], part.iloc[-1], len(part)
    http = " · ".join(text for time, end, text in spoken
                      if end == first["end"] and first["time"] <= time <= last["time"] and first["length"])
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
        _ladder_break(ax, row.y - 0.5 - 0.3 * (row.http != ""), f"{duration(row.gap)} later")
    look = CENTRE | {"size": 9.5}
    if row.style == "left out":
        ax.text(centre, middle, row.label, style="italic", color=COLOURS["quiet"], **look)
        return
    begin, end = LIFELINES if row.sender == "client" else LIFELINES[::-1]
    colour, strong = COLOURS[row.sender], row.style in ("fin", "reset")
    line = {"probe": (0, (2, 2)), "reset": (0, (6, 2))}.get(row.style, "-")
    ax.annotate("", (end, row.lands), (begin, row.y), zorder=3, arrowprops=dict(
        arrowstyle="-|>", color=colour, linewidth=2.2 if strong else 1.4, linestyle=line, mutation_scale=13,
        shrinkA=0, shrinkB=0))
    near = 0.5 if row.lands == row.y + SLANT else 0.25
    ax.text(begin + near * (end - begin), row.y + near * (row.lands - row.y), row.label, zorder=4,
            weight="bold" if strong else "normal", **look,
            bbox=dict(boxstyle="square,pad=0.12", facecolor="white", edgecolor="none"))
    if row.http:
        ax.text(centre, middle - 0.62, row.http, weight="bold", color=colour, zorder=5, **look)
    for x, text, ink in ((0.035, f"{row.frame}", COLOURS["quiet"]), (0.155, f"{row.time:.6f}", "black")):
        ax.text(x, row.y + SLANT / 4, text, ha="right", va="center", size=9, color=ink)


def _ladder_break(ax, y, text):
    """Cut through lifelines and bands, and say how much time passed here."""
    x = np.linspace(LIFELINES[0] - BAND, LIFELINES[1] + BAND, 200)
    wave = y + 0.09 * np.sin(x * 2 * np.pi / 0.028)
    ax.fill_between(x, wave - 0.13, wave + 0.13, color="white", linewidth=0, zorder=6)
    for side in (-0.13, 0.13):
        ax.plot(x, wave + side, color="#999999", linewidth=0.8, zorder=7)
    ax.text(np.mean(LIFELINES), y, text, size=10.5, weight="bold", color=COLOURS["quiet"], zorder=8, **CENTRE,
            bbox=dict(boxstyle="square,pad=0.35", facecolor="white", edgecolor="none"))


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
        free = _widest(top, low, rows["y"][rows["gap"].notna()] - 0.5)
        lasts = f"\n{stay.lasts}" if np.ptp(free) > 1.1 and GAP <= stay.until - stay.since < np.inf else ""
        if np.ptp(free) >= 0.45:
            ax.text(left + BAND / 2, np.mean(free), stay.state + lasts, color=_ink(colour), **look,
                    weight="bold" if stay.state == "TIME_WAIT" else "normal")
        forgotten = not ((rows["time"] <= stay.until) & (stay.until <= rows["until"])).any()
        if stay.Index == stays.index[-1] and forgotten and low < bottom:
            ax.text(left + BAND / 2, low + 0.7, "no socket left", color=COLOURS["quiet"], **look)


def _ladder_place(rows, time, end, bottom):
    """Where `time` lies on the ladder for `end`: at its own point of the arrow that left, or came, then."""
    if time < rows["time"].iloc[0]:
        return rows["y"].iloc[0] - 0.5
    if time > rows["until"].max():
        return bottom
    row = rows[rows["time"] <= time].iloc[-1]
    if time <= row["until"]:
        answers = rows["y"][(rows["sender"] == end) & (rows["y"] > row["y"])]
        return row["y"] if row["sender"] == end else min([row["lands"], *answers[:1]])
    return (row["lands"] + rows["y"].iloc[row.name + 1]) / 2 if row.name + 1 < len(rows) else bottom


# The waterfall

@_in_style
def waterfall(experiment, ax=None, between=None):
    """One row a connection: requests as bars, idle line, probes, FIN and RST, then what is left at each end.

    After the first FIN a row has two lanes, the client's above, the server's below. `between`: (from, to) in
    seconds; less than two seconds are drawn in milliseconds. A bar too short to be seen is widened.
    """
    table = _alive(experiment, *(between or (-np.inf, np.inf)))
    ax = _axes(ax, 1.5 + 0.5 * len(table))
    unit = _time_axis(ax, between or _life(experiment))
    states, asked = _stays(experiment.states, unit), experiment.exchanges.copy()
    asked[["requested", "answered", "finished"]] *= unit
    segments = experiment.segments.assign(time=experiment.segments["time"] * unit, probe=keepalive_probes(
        experiment.capture), letters=experiment.segments["flags"].astype(str))
    for y, (stream, connection) in enumerate(table.iterrows()):
        sent, requests, stays = (rows[rows["stream"] == stream] for rows in (segments, asked, states))
        ended, probes = sent[sent["letters"].str.contains("[FR]")], _numbers(sent["time"][sent["probe"]])
        close = ended["time"].min() if len(ended) else ax.get_xlim()[1]
        spoke = len(requests) or pd.NA if (sent["length"] > 1).any() else 0
        _life_line(ax, y, sent["time"].min(), connection["established"] * unit, close, spoke)
        edge = _request_bars(ax, y, requests, sent["time"].min(), close)
        for stay in stays[~stays["state"].isin(OPEN)].itertuples():
            _after_fin(ax, y, stay, [*probes, edge + _points(ax, 6)])
        ax.plot(probes, np.full(len(probes), y), "|", markersize=15, markeredgewidth=2.2, zorder=6,
                color=COLOURS["probe"], gid=f"{stream} probe")
        _ending_marks(ax, y, ended, connection["closer"], edge)
    ax.set_yticks(range(len(table)), [_port(name) for name in table["client"]])
    ax.set(ylim=(len(table) - 0.45, -0.55), ylabel="client port")
    _key(ax, set(asked["target"][asked["stream"].isin(table.index)].map(kind_of)))
    return ax


def _alive(experiment, first, last):
    """The connections that have segments or states between `first` and `last`, in order of opening."""
    times = experiment.segments.groupby("stream")["time"].agg(["min", "max"])
    until = experiment.states.groupby("stream")["until"].max().reindex(times.index)
    alive = times[(times["min"] <= last) & (np.fmax(times["max"], _numbers(until)) >= first)]
    return experiment.connections.loc[alive.sort_values("min", kind="stable").index]


def _life(experiment):
    """From the first segment to the moment the last state ends, with a little air."""
    until = _numbers(experiment.states["until"])
    first, last = experiment.segments["time"].min(), max([experiment.capture.end, *until[np.isfinite(until)]])
    return first - 0.012 * (last - first), last + 0.012 * (last - first)


def _life_line(ax, y, begin, established, close, requests):
    """A connection up to its first FIN or RST; one that never carried a request is conspicuous."""
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
    end = stay.host if pd.notna(stay.host) else f"port {_port(stay.local)}"
    upper = end == "client" or end != "server" and stay.local < stay.peer
    texts = [f"{stay.state}, {end}", stay.state]
    texts = [f"{texts[0]}, {stay.lasts}", *texts] if stay.lasts else texts
    _band(ax, stay, y - 0.4 * upper, 0.4, texts, keep_clear, edgecolor=COLOURS.get(end, COLOURS["edge"]),
          linewidth=1.6 if stay.state == "TIME_WAIT" else 0.5, gid=f"{stay.stream} {end} {stay.state}")


def _request_bars(ax, y, requests, opened, close):
    """Draw requests as bars, none too thin to be seen, named where there is room; returns the last's end."""
    low, high = ax.get_xlim()
    edge = -np.inf
    begins = [*_numbers(requests["requested"]), min(close - _points(ax, 6), high)]
    for begin, after, row in zip(begins, begins[1:], requests.itertuples()):
        last = next((time for time in (row.finished, row.answered) if pd.notna(time)), begin)
        begin = max(begin, edge)
        edge = max(begin + _points(ax, 4), last)
        ax.add_patch(Rectangle(
            (begin, y - 0.3), edge - begin, 0.6, facecolor=COLOURS[kind_of(row.target)], linewidth=0.6,
            edgecolor=COLOURS["edge"], zorder=4, gid=f"{row.stream} {row.nth} {plain(row.target)}"))
        if begin < low or edge > high or ax.get_xlabel() != "Time (ms)":
            continue
        name = plain(str(row.target).rpartition("/")[2] or "/", 16)
        needs, look = _points(ax, _width(name) + 5), dict(textcoords="offset points", va="bottom", **SMALL)
        if needs < edge - begin:
            ax.text((begin + edge) / 2, y, name, **CENTRE, **SMALL)
        elif needs < after - edge:
            ax.annotate(name, (edge, y), (2, 4), **look)
        elif needs < opened - low:
            ax.annotate(name, (opened, y), (-6, 0), ha="right", **look | {"va": "center"})
    return edge


def _ending_marks(ax, y, ended, closer, edge):
    """First FIN and RST of each end, in its colour and lane; hollow where the FIN answers another."""
    for letter, name, marker in (("F", "FIN", "o"), ("R", "RST", "X")):
        sent = ended[ended["letters"].str.contains(letter)].drop_duplicates(["src", "sport"])
        for row in sent.itertuples():
            lane = {"client": -0.2, "server": 0.2}.get(row.host, 0)
            colour = COLOURS.get(row.host, COLOURS["quiet"])
            first = name == "RST" or pd.isna(closer) or closer in (row.host, "both")
            ax.plot([max(row.time, edge + _points(ax, 4))], [y + lane], marker, color=colour, zorder=7,
                    markerfacecolor=colour if first else "white", markersize=7.5, markeredgewidth=1.5,
                    gid=f"{row.stream} {row.host} {name}")


def _key(ax, kinds=()):
    """One line below the figure that names its marks, and the states whose name found no room."""
    low, high = ax.get_xlim()
    marks = {str(line.get_gid()).partition(" ")[2]: line for line in ax.lines
             if any(low <= x <= high for x in line.get_xdata())}
    named = " ".join(text.get_text() for text in ax.texts)
    bands = {str(patch.get_gid()).rpartition(" ")[2] for patch in ax.patches
             if patch.get_width() > _points(ax, 4)}
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


# States over time

@_in_style
def state_bands(states, ax=None, stream=None):
    """The state of both ends of each connection over time, as two bands named inside where the name fits.

    `stream`: one stream or a list of them (None: all).
    """
    if stream is not None:
        states = states[states["stream"].isin(np.atleast_1d(stream))]
    ends = states.drop_duplicates(["stream", "local"])
    lanes = np.arange(len(ends)) * 1.1 + 0.4 * (pd.factorize(ends["stream"])[0])
    place = dict(zip(zip(ends["stream"], ends["local"]), lanes))
    ax = _axes(ax, 1.0 + 0.36 * len(ends))
    known = np.r_[_numbers(states["since"]), _numbers(states["until"])]
    known = known[np.isfinite(known)] if np.isfinite(known).any() else np.array([0, 1])
    unit = _time_axis(ax, (known.min(), known.max() + 0.005 * np.ptp(known)))
    for stay in _stays(states, unit).itertuples():
        texts = (stay.state + f", {stay.lasts}" * bool(stay.lasts), stay.state)
        _band(ax, stay, place[stay.stream, stay.local], 1, texts, edgecolor="white", linewidth=0.6,
              gid=f"{stay.stream} {stay.host} {stay.state}")
    hosts = ends["host"].fillna("")
    names = np.where(hosts == "server", "server", ends["local"].map(_port) + " " + hosts)
    ax.set_yticks(lanes + 0.5, names)
    ax.set_ylim(max([1, *lanes]) + 1.2, -0.2)
    ax.spines["left"].set_visible(False)
    for label, host in zip(ax.get_yticklabels(), hosts):
        label.set_color(COLOURS.get(host, COLOURS["quiet"]))
    _key(ax)
    return ax


@_in_style
def time_wait_curve(states, sockets=None, ax=None, until=None):
    """How many sockets are in TIME_WAIT over time: lines from packets, marks from the kernel (`sockets`).

    Each line is named with its peak. `until`: last second drawn (None: a little after the last state known).
    """
    ax = _axes(ax, 4)
    curves = {host: count(states, "TIME_WAIT", host) for host in HOSTS}
    known = _numbers(states["until"])
    until = until or max([1.0, *known[np.isfinite(known)]]) * 1.05
    ax.set(xlim=(0, until), xlabel="Time (s)", ylabel="sockets in TIME_WAIT")
    wide = _points(ax, 72 * 3.5) < until
    for host, curve in curves.items():
        curve = curve[curve.index <= until]
        times = np.r_[0.0, curve.index.to_numpy(float), until]
        values = np.r_[0, curve.to_numpy(), curve.iloc[-1] if len(curve) else 0]
        ax.step(times, values, where="post", color=COLOURS[host], linewidth=2.4, zorder=3, clip_on=False,
                linestyle="-" if host == "server" else (0, (4, 1.2)), label=host)
        ax.fill_between(times, values, step="post", color=COLOURS[host], alpha=0.09, linewidth=0)
        _name_peak(ax, host, times, values, states)
        if sockets is not None:
            at = np.arange(0.1, until, max(0.2, _points(ax, 8)))
            ax.plot(at, [count(sockets, "TIME_WAIT", host, time) for time in at], linestyle="none",
                    marker="o" if host == "server" else "s", markersize=4.5, markerfacecolor="white",
                    markeredgecolor=COLOURS[host], zorder=4, clip_on=False, label=f"{host}, kernel")
    beside, above = (axes.get_siblings(ax) for axes in (ax.get_shared_y_axes(), ax.get_shared_x_axes()))
    last = max(line.get_xdata().max() for member in above for line in member.lines)
    top = max([1, *(line.get_ydata().max() for member in beside for line in member.lines)])
    ax.set(xlim=(0, last), ylim=(0, top * 1.25))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    if len(beside) > 1:
        ax.label_outer()
    if sockets is not None and wide:
        ax.text(1, 1, "lines: from packets; marks: the kernel's count (ss)", size=9, ha="right", va="top",
                transform=ax.transAxes, color=COLOURS["quiet"])
    return ax


def _name_peak(ax, host, times, values, states):
    """Write `host` and its peak where it held longest; the client's below a line that both share."""
    held = np.diff(times) * (values[:-1] == values.max())
    longest, peak, server = held.argmax(), int(values.max()), host == "server"
    x = times[longest] + held[longest] / 2 if peak else times[-1] * (0.6 if server else 0.02)
    below = peak > 0 and not server and count(states, "TIME_WAIT", "server", at=x) == peak
    ax.annotate(f"{host}: {peak:,}", (x, peak), (0, -6 if below else 5), textcoords="offset points", zorder=5,
                color=COLOURS[host], weight="bold", va="top" if below else "bottom",
                ha="center" if peak else "right" if server else "left")


# Comparisons

@_in_style
def bill(table, ax=None):
    """What a request costs: a group of bars for each cost (index), a bar for each column, with its number."""
    ax = _axes(ax, 0.6 + 0.8 * len(table))
    thick = 0.8 / len(table.columns)
    largest = max([0.0, *np.nan_to_num([_numbers(table[name]) for name in table]).ravel()]) or 1
    for number, name in enumerate(table.columns):
        values = _numbers(table[name])
        places = np.arange(len(table)) + (number - (len(table.columns) - 1) / 2) * thick
        colour = COLOURS.get(name, COLOURS["quiet"])
        ax.barh(places, np.nan_to_num(values), thick * 0.92, color=colour, label=name)
        for value, place in zip(values, places):
            text = "cannot tell" if np.isnan(value) else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"
            ax.annotate(f"{text}  {name}", (np.nan_to_num(value), place), (5, 0), textcoords="offset points",
                        va="center", size=10.5)
    ax.set_yticks(range(len(table)), table.index.astype(str))
    ax.set(xlim=(0, largest * 1.18), ylim=(len(table) - 0.5, -0.5))
    ax.spines["bottom"].set_visible(False)
    ax.tick_params(length=0, labelbottom=False, labelsize=11)
    return ax


@_in_style
def connection_counts(counts, ax=None, article=None):
    """Connections that page loads opened, against the images of the page: a mark's area tells how often.

    `counts`: columns `browser`, `start`, `images`, `connections`, one row a load. `article`: columns `images`
    and `connections`, drawn as grey bars behind.
    """
    ax = _axes(ax, 4.2)
    article = None if article is None else article.dropna(subset="connections").astype({"connections": int})
    tables = [counts] if article is None else [counts, article]
    images = sorted(set().union(*(table["images"] for table in tables)))
    groups = list(counts.groupby(["browser", "start"], observed=True))
    if article is not None:
        places = article["images"].map(images.index).to_numpy()
        ax.hlines(article["connections"], places - 0.42, places + 0.42, color=COLOURS["article"],
                  linewidth=11, zorder=1, label="the article, 2018")
    for number, ((names, loads), (marker, colour)) in enumerate(zip(groups, RUNS.items())):
        seen = loads.groupby(["images", "connections"]).size().reset_index(name="loads")
        share = seen["loads"] / seen.groupby("images")["loads"].transform("sum")
        x = seen["images"].map(images.index) + (number - (len(groups) - 1) / 2) * 0.72 / len(groups)
        ax.scatter(x, seen["connections"], s=20 + 150 * share, color=colour, marker=marker, zorder=3,
                   linewidth=0.7, edgecolor=COLOURS["edge"], label=", ".join(map(str, names)))
    ax.set_xticks(range(len(images)), images)
    ax.set(xlabel="images in the page", ylabel="connections opened", xlim=(-0.5, len(images) - 0.5),
           ylim=(0, max(table["connections"].max() for table in tables) + 0.7))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(axis="y", color="#EEEEEE", zorder=0)
    ax.vlines(np.arange(len(images) - 1) + 0.5, *ax.get_ylim(), color="#EEEEEE", linewidth=1, zorder=0)
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9.5)
    return ax


@_in_style
def closer_shares(table, ax=None):
    """Who closed first, in shares: a bar for each cell of a grid, in the colours of the ends.

    `table`: a row a connection, with `closer` and the grid's rows and columns as `row` and `column` (in their order of
    appearance, or as categories). Each bar runs from the client's share, at the left, over both to the server's.
    """
    shares = table.groupby(["row", "column"], observed=True)["closer"].value_counts(normalize=True).unstack(fill_value=0)
    rows, columns = (list(dict.fromkeys(table.sort_values(name)[name] if table[name].dtype == "category"
                                        else table[name])) for name in ("row", "column"))
    ax = _axes(ax, 1.2 + 0.42 * len(rows))
    for (row, column), share in shares.iterrows():
        left, x, y = 0.0, columns.index(column), rows.index(row)
        for closer in ("client", "both", "server"):
            width = 0.92 * share.get(closer, 0)
            ax.add_patch(Rectangle((x + left, y), width, 0.74, linewidth=0, facecolor=CLOSERS[closer],
                                   gid=f"{row} {column} {closer}"))
            if width > 0.2:
                ax.text(x + left + width / 2, y + 0.37, f"{share[closer]:.0%}".rstrip("%"), color="white",
                        weight="bold", **CENTRE, **SMALL)
            left += width
    ax.set(xlim=(-0.04, len(columns)), ylim=(len(rows), -0.1))
    ax.set_xticks(np.arange(len(columns)) + 0.46, columns)
    ax.set_yticks(np.arange(len(rows)) + 0.37, rows)
    ax.xaxis.tick_top()
    ax.tick_params(length=0, labelsize=9.5)
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.legend(handles=[Rectangle((0, 0), 1, 1, facecolor=colour, label=f"{closer} first" if closer in HOSTS else closer)
                       for closer, colour in CLOSERS.items()],
              loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3, fontsize=9.5)
    return ax


@_in_style
def lines(table, ax=None, ylabel="", expected=None, log=False):
    """Each column of `table` over its index (seconds), as a line named at its end; `log`: on a logarithmic scale.

    `expected`: a Series by column: what was expected of it, drawn as a dotted level.
    """
    ax = _axes(ax, 4)
    last, ends = float(table.index.max()), {}
    for number, (name, values) in enumerate(table.items()):
        values, colour = _numbers(values), LINES[number % len(LINES)]
        ax.plot(table.index, values, color=colour, linewidth=2.2, linestyle=DASHES[number % len(DASHES)],
                drawstyle="steps-post", label=str(name))
        if expected is not None and name in expected:
            ax.axhline(expected[name], color=colour, linewidth=1, linestyle=":")
        ends[name] = max([1, *values[np.isfinite(values)][-1:]]), colour
    high = max(1, *(np.nanmax(line.get_ydata()) for line in ax.lines))
    ax.set(xlim=(0, last), xlabel="Time (s)", ylabel=ylabel, yscale="log" if log else "linear")
    ax.set_ylim(*((1, high * 2) if log else (0, high * 1.08)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    place = -1
    for name, (value, colour) in sorted(ends.items(), key=lambda item: item[1][0]):
        place = max(ax.transAxes.inverted().transform(ax.transData.transform((last, value)))[1], place + 0.075)
        ax.annotate(str(name), (last, value), (1.03, place), textcoords="axes fraction", va="center", size=10,
                    color=_dark(colour), weight="bold",
                    arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.8, "relpos": (0, 0.5)})
    return ax


def _dark(colour):
    """`colour`, dark enough for text on white."""
    return tuple(0.7 * part if sum(to_rgb(colour)) > 1.5 else part for part in to_rgb(colour))


@_in_style
def stacked(table, ax=None, xlabel=""):
    """A bar for each row of `table`, made of its columns, each part with its number where there is room."""
    ax = _axes(ax, 1.2 + 0.45 * len(table))
    left, total = np.zeros(len(table)), max(1, float(table.sum(axis=1).max()))
    for (name, values), colour in zip(table.items(), (STATE_COLOURS["TIME_WAIT"], COLOURS["server"], COLOURS["client"])):
        values = np.nan_to_num(_numbers(values))
        ax.barh(range(len(table)), values, 0.7, left=left, color=colour, label=str(name))
        for row, (begin, value) in enumerate(zip(left, values)):
            if value > 0.06 * total:
                ax.text(begin + value / 2, row, f"{value:,.0f}", color="white", weight="bold", **CENTRE, **SMALL)
        left += values
    for row, value in enumerate(left):
        ax.annotate(f"{value:,.0f}", (value, row), (5, 0), textcoords="offset points", va="center", size=10)
    ax.set_yticks(range(len(table)), table.index.astype(str))
    ax.set(xlim=(0, total * 1.1), ylim=(len(table) - 0.5, -0.5), xlabel=xlabel)
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.legend(loc="upper center", bbox_to_anchor=(0.4, -0.16), ncols=len(table.columns), fontsize=9.5)
    return ax


@_in_style
def poster(verdicts, ax=None):
    """All claims on one page, each with its number, its verdict in colour, and the condition where it has one.

    `verdicts`: the table of `claims.judge()`.
    """
    ax = _axes(ax, 11)
    half = (len(verdicts) + 1) // 2
    for place, (number, row) in enumerate(verdicts.iterrows()):
        x, y = place // half, place % half
        ax.add_patch(Rectangle((x, y + 0.06), 0.055, 0.8, facecolor=VERDICTS[row["verdict"]], linewidth=0,
                               gid=f"{number} {row['verdict']}"))
        ax.text(x + 0.0275, y + 0.46, str(number), color="white", weight="bold", **CENTRE, **SMALL)
        lines = textwrap.wrap(plain(row["says"], 120), 46)[:2]
        verdict = row["verdict"] + (f" {row['condition']}" if row["condition"] else "")
        ax.text(x + 0.07, y + 0.03, "\n".join(lines), size=9.5, va="top")
        ax.text(x + 0.07, y + 0.1 + 0.32 * len(lines), verdict, size=8.5, va="top", color=VERDICTS[row["verdict"]],
                weight="bold")
    tally = verdicts["verdict"].value_counts()
    ax.legend(handles=[Rectangle((0, 0), 1, 1, facecolor=colour, label=f"{verdict}: {tally.get(verdict, 0)}")
                       for verdict, colour in VERDICTS.items()],
              loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4, fontsize=11)
    ax.set(xlim=(0, 2), ylim=(half, 0))
    ax.axis("off")
    return ax
