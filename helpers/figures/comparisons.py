"""Comparisons: bars, dots, lines, and the poster of the verdicts."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from helpers.connections import HOSTS
from helpers.figures.style import CENTRE, COLOURS, SMALL, STATE_COLOURS, axes_for, in_style, numbers_of, plain

CLOSERS = {"client": COLOURS["client"], "both": STATE_COLOURS["TIME_WAIT"], "server": COLOURS["server"]}
VERDICTS = {"stands": "#00714F", "stood then": "#3B8EC2", "stands only if": "#B58B00", "stands at times": "#8A6D9E",
            "does not stand": "#A01C1C"}
RUNS = {"o": "#332288", "s": "#88CCEE", "D": "#117733", "^": "#DDCC77", "v": "#AA4499", "P": "#999999"}
LINES = ("#332288", "#D55E00", "#117733", "#88CCEE", "#AA4499", "#DDCC77", "#666666", "#CC6677")
DASHES = ("-", (0, (5, 1.5)), (0, (2, 1)), "-.")


@in_style
def bill(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """What a request costs: a group of bars for each cost (the index), with a bar and its number for each column."""
    ax = axes_for(ax, 0.6 + 0.8 * len(table))
    thick = 0.8 / len(table.columns)
    largest = max([0.0, *np.nan_to_num([numbers_of(table[name]) for name in table]).ravel()]) or 1
    for number, name in enumerate(table.columns):
        values = numbers_of(table[name])
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


@in_style
def connection_counts(counts: pd.DataFrame, ax: Axes | None = None, article: pd.DataFrame | None = None) -> Axes:
    """Connections that page loads opened, against the images of the page: a mark's area tells how often.

    `counts`: columns `browser`, `start`, `images`, `connections`, one row a load. `article`: columns `images`
    and `connections`, drawn as grey bars behind.
    """
    ax = axes_for(ax, 4.2)
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


@in_style
def client_counts(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Connections of programs and the TIME_WAITs that they left, by end: a row for each client, on a scale of powers.

    `table`: a row a run, with `client`, `connections`, `time_wait_client` and `time_wait_server`. A ring is the median
    of the connections, with a line from the fewest to the most; a dot in the colour of an end is the median there.
    """
    runs = table.groupby("client", sort=False)[["connections", "time_wait_client", "time_wait_server"]]
    median, fewest, most = (getattr(runs, name)().astype(float) for name in ("median", "min", "max"))
    ax = axes_for(ax, 0.9 + 0.27 * len(median))
    rows = np.arange(len(median))
    ax.hlines(rows, fewest["connections"], most["connections"], color=COLOURS["quiet"], linewidth=2, zorder=1)
    ax.scatter(median["connections"], rows, s=150, facecolor="white", edgecolor=COLOURS["edge"], zorder=2,
               label="connections")
    for host, marker, size in (("client", "o", 55), ("server", "s", 50)):
        found = median[f"time_wait_{host}"] > 0
        ax.scatter(median.loc[found, f"time_wait_{host}"], rows[found], s=size, marker=marker, color=COLOURS[host],
                   zorder=3, label=f"TIME_WAIT at the {host}")
    for row, (middle, last) in enumerate(zip(median["connections"], most["connections"])):
        ax.annotate(f"{middle:g}", (last, row), (11, 0), textcoords="offset points", va="center", size=10)
    ax.set_yticks(rows, median.index)
    ax.set(xscale="log", xlim=(0.8, most["connections"].max() * 2), ylim=(len(rows) - 0.5, -0.5))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.grid(color="#EEEEEE", zorder=0)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("for the same requests (each line ten times the one before)")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3, fontsize=9.5)
    return ax


@in_style
def closer_shares(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Who closed first, in shares: a bar for each cell of a grid, in the colours of the ends.

    `table`: a row a connection, with `closer` and the grid's rows and columns as `row` and `column` (in their order of
    appearance, or as categories). Each bar runs from the client's share, at the left, over both to the server's.
    """
    cells = table.groupby(["row", "column"], observed=True)["closer"]
    shares = cells.value_counts(normalize=True).unstack(fill_value=0)
    rows, columns = (list(dict.fromkeys(table.sort_values(name)[name] if table[name].dtype == "category"
                                        else table[name])) for name in ("row", "column"))
    ax = axes_for(ax, 1.2 + 0.42 * len(rows))
    for (row, column), share in shares.iterrows():
        _share_bar(ax, columns.index(column), rows.index(row), share, f"{row} {column}")
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


def _share_bar(ax, left, y, share, name):
    """One cell of the grid: the share of each closer, with its percentage inside, or below where it is narrow."""
    for closer in ("client", "both", "server"):
        width = 0.92 * share.get(closer, 0)
        ax.add_patch(Rectangle((left, y), width, 0.74, linewidth=0, facecolor=CLOSERS[closer], gid=f"{name} {closer}"))
        percent = f"{share.get(closer, 0):.0%}".rstrip("%")
        if width > 0.14:
            ax.text(left + width / 2, y + 0.37, percent, color="white", weight="bold", **CENTRE, **SMALL)
        elif width:
            ax.text(left + width / 2, y + 0.75, percent, color=CLOSERS[closer], weight="bold", size=7.5, va="top",
                    ha="center")
        left += width


@in_style
def lines(table: pd.DataFrame, ax: Axes | None = None, ylabel: str = "", expected: pd.Series | None = None,
          log: bool = False) -> Axes:
    """Each column of `table` over its index (seconds), as a line named at its end; `log`: on a logarithmic scale.

    `expected`: a Series by column: what was expected of it, drawn as a dotted level.
    """
    ax = axes_for(ax, 4)
    last, ends, under = float(table.index.max()), {}, _under(table)
    for number, (name, values) in enumerate(table.items()):
        values, colour = numbers_of(values), LINES[number % len(LINES)]
        width, dashes = (5, "-") if under[number] else (2.2, DASHES[number % len(DASHES)])
        ax.plot(table.index, values, color=colour, linewidth=width, linestyle=dashes, drawstyle="steps-post",
                label=str(name))
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


def _under(table):
    """Whether a later line lies on each line: then it is drawn wide and solid, so that both are seen."""
    columns = [numbers_of(values) for _, values in table.items()]
    return [any(np.median(np.abs(later - values)) <= 0.02 * values.max() for later in columns[number + 1:])
            for number, values in enumerate(columns)]


def _dark(colour):
    """`colour`, dark enough for text on white."""
    light = np.dot(to_rgb(colour), (0.2126, 0.7152, 0.0722)) > 0.45
    return tuple(0.7 * part if light else part for part in to_rgb(colour))


@in_style
def stacked(table: pd.DataFrame, ax: Axes | None = None, xlabel: str = "") -> Axes:
    """A bar for each row of `table`, with a part for each column and its number where there is room."""
    ax = axes_for(ax, 1.2 + 0.45 * len(table))
    left, total = np.zeros(len(table)), max(1, float(table.sum(axis=1).max()))
    colours = STATE_COLOURS["TIME_WAIT"], COLOURS["server"], COLOURS["client"]
    for (name, values), colour in zip(table.items(), colours):
        values = np.nan_to_num(numbers_of(values))
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


@in_style
def poster(verdicts: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """All claims on one page, each with its number, its verdict in colour, and the condition where it has one.

    `verdicts`: the table of `claims.judge()`; a verdict that rests on few recordings says so (column `rests_on`).
    """
    ax = axes_for(ax, 11)
    columns = 2 if len(verdicts) <= 40 else 3
    rows = -(-len(verdicts) // columns)
    for place, (number, row) in enumerate(verdicts.iterrows()):
        _claim(ax, place // rows, place % rows, number, row, 46 if columns == 2 else 80)
    tally = verdicts["verdict"].value_counts()
    ax.legend(handles=[Rectangle((0, 0), 1, 1, facecolor=colour, label=f"{verdict}: {tally.get(verdict, 0)}")
                       for verdict, colour in VERDICTS.items() if verdict in tally or verdict != "stands at times"],
              loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=len(VERDICTS), fontsize=11)
    ax.set(xlim=(0, columns), ylim=(rows, 0))
    ax.axis("off")
    return ax


def _claim(ax, x, y, number, row, width):
    """One claim of the poster: its number in a box, what it says in at most two lines, and the verdict below."""
    colour = VERDICTS[row["verdict"]]
    ax.add_patch(Rectangle((x, y + 0.06), 0.055, 0.8, facecolor=colour, linewidth=0, gid=f"{number} {row['verdict']}"))
    ax.text(x + 0.0275, y + 0.46, str(number), color="white", weight="bold", **CENTRE, **SMALL)
    said = textwrap.wrap(plain(row["says"], 120), width)[:2]
    rests_on = f" ({row['rests_on']})" if row.get("rests_on") else ""
    verdict = row["verdict"] + (f" {row['condition']}" if row["condition"] else "") + rests_on
    ax.text(x + 0.07, y + 0.03, "\n".join(said), size=9.5, va="top")
    lines = textwrap.wrap(verdict, width + (22 if width < 60 else 4))[:2]
    ax.text(x + 0.07, y + 0.07 + 0.31 * len(said), "\n".join(lines), size=8.5, va="top", color=_dark(colour),
            weight="bold")
