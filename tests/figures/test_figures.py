"""The figures, judged by what their artists hold, never by their pixels."""

import struct
import warnings
from itertools import pairwise
from types import SimpleNamespace

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from toys import EXCHANGE, HANDSHAKE, SERVER_CLOSES, segment, toy

from helpers import figures
from helpers.connections import connections
from helpers.diagnosis import RULES
from helpers.diagnosis.file_rules import FILE_RULES
from helpers.exchanges import exchanges
from helpers.experiments import Experiment, data_folder, load
from helpers.states import count, states

HOSTILE = b"GET /$\\frac{1}{0}$" + b"x" * 300 + b".jpg HTTP/1.1\r\nHost: x\r\n\r\n"
UNUSED = ("10.0.0.1", 50001)


@pytest.fixture(autouse=True)
def clean():
    """A backend without windows; warnings (a missing glyph, a failing layout) are errors; no figure left."""
    matplotlib.use("Agg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        for number in plt.get_fignums():
            figure = plt.figure(number)
            figure.set_dpi(40)
            figure.canvas.draw()
    plt.close("all")


def tables(capture):
    """What an `Experiment` offers, of a toy capture."""
    return SimpleNamespace(capture=capture, segments=capture.segments, connections=connections(capture),
                           exchanges=exchanges(capture), states=states(capture))


@pytest.fixture
def page(tmp_path):
    """One connection with a request, closed by the server, and one without, closed by the client at 10 s."""
    unused = [segment(who, time, flags, seq, ack, client=UNUSED) for who, time, flags, seq, ack in (
        ("C", 0.01, "S", 0, 0), ("S", 0.11, "SA", 0, 1), ("C", 0.21, "A", 1, 1),
        ("C", 5.0, "A", 0, 1), ("S", 5.1, "A", 1, 1),
        ("C", 10.0, "FA", 1, 1), ("S", 10.1, "FA", 1, 2), ("C", 10.2, "A", 2, 2))]
    parts = [segment(*part) for part in HANDSHAKE + EXCHANGE + SERVER_CLOSES] + unused
    return tables(toy(tmp_path / "page.pcap", *sorted(parts, key=lambda part: part.time)))


def new():
    """Axes of a new figure."""
    return figures.figure(4)[1]


def texts(ax):
    return [text.get_text() for text in ax.texts]


def marked(ax, ending):
    """Patches and lines whose mark ends so."""
    return [artist for artist in (*ax.patches, *ax.lines) if str(artist.get_gid()).endswith(ending)]


# The ladder

def test_ladder_names_every_segment_as_wireshark_does(page):
    shown = texts(figures.ladder(page.capture, 0))
    for label in ("SYN seq=0", "SYN, ACK seq=0 ack=1", "ACK seq=1 ack=1", "PSH, ACK seq=1 ack=1 len=27",
                  "FIN, ACK seq=44 ack=28", "FIN, ACK seq=28 ack=45", "ACK seq=45 ack=29"):
        assert label in shown


def test_ladder_marks_probes_breaks_and_requests(page):
    shown = texts(figures.ladder(page.capture, 1, exchanges=page.exchanges))
    assert "ACK seq=0 ack=1  (keep-alive probe)" in shown and "4.79 s later" in shown
    shown = texts(figures.ladder(page.capture, 0, new(), exchanges=page.exchanges))
    assert {"GET /", "200 OK, 43 bytes"} <= set(shown)


def test_ladder_bands_follow_the_states_down_each_side(page):
    ax = figures.ladder(page.capture, 0, states=page.states)
    own = page.states[page.states["stream"] == 0]
    assert [patch.get_gid() for patch in ax.patches if patch.get_gid()] == \
        [f"{stay.host} {stay.state}" for stay in own.sort_values("host", kind="stable").itertuples()]
    waits, = marked(ax, "server TIME_WAIT")
    assert waits.get_facecolor() == matplotlib.colors.to_rgba(figures.STATE_COLOURS["TIME_WAIT"])
    assert any(text.startswith("TIME_WAIT\n60") for text in texts(ax))
    for host in ("client", "server"):
        bands = [patch for patch in ax.patches if str(patch.get_gid()).startswith(host)]
        edges = [(patch.get_y(), patch.get_y() + patch.get_height()) for patch in bands]
        assert all(end == pytest.approx(begin) for (_, end), (begin, _) in pairwise(edges))


def test_ladder_shows_only_the_frames_asked_for(page):
    some = figures.ladder_rows(page.capture, 0, slice(1, 4))
    assert list(some["label"]) == ["SYN seq=0", "SYN, ACK seq=0 ack=1"]
    assert list(figures.ladder_rows(page.capture, 0, {1, 5})["frame"]) == [1, 5]
    assert len(figures.ladder(page.capture, 0, new(), frames=[], states=page.states).texts) >= 2


def test_ladder_folds_a_run_of_data_segments_and_its_acks(tmp_path):
    data = [("S", 1 + number / 100, "A", 1 + 1000 * number, 1, b"x" * 1000) for number in range(31)]
    acks = [("C", 1.005 + number / 100, "A", 1, 1001 + 1000 * number) for number in range(31)]
    capture = toy(tmp_path / "t.pcap", *HANDSHAKE, *sorted(data + acks, key=lambda part: part[1]))
    assert list(figures.ladder_rows(capture, 0)["label"])[3:] == [
        "31 data segments, 31,000 bytes, seq=1 to 31001", "31 ACKs, the last ack=31001"]


def test_ladder_of_a_very_long_connection_leaves_out_its_middle(tmp_path):
    talk = [("CS"[number % 2], 1 + number / 100, "PA", 1 + number // 2 * 2, 1 + (number + 1) // 2 * 2, b"xx")
            for number in range(400)]
    ax = figures.ladder(toy(tmp_path / "t.pcap", *HANDSHAKE, *talk), 0)
    assert "… 344 rows left out …" in texts(ax)


def test_ladder_says_where_a_segment_comes_again(tmp_path):
    capture = toy(tmp_path / "t.pcap", *HANDSHAKE, *EXCHANGE, *SERVER_CLOSES[:3], ("C", 1.8, "FA", 28, 45))
    assert list(figures.ladder_rows(capture, 0)["label"])[-2:] == [
        "FIN, ACK seq=28 ack=45", "FIN, ACK seq=28 ack=45  (again)"]


def test_ladder_lets_two_first_fins_cross(tmp_path):
    both = [("S", 1.0, "FA", 44, 28), ("C", 1.01, "FA", 28, 44),
            ("S", 1.1, "A", 45, 29), ("C", 1.11, "A", 29, 45)]
    rows = figures.ladder_rows(toy(tmp_path / "t.pcap", *HANDSHAKE, *EXCHANGE, *both), 0).set_index("frame")
    assert rows["lands"][7] > rows["y"][8] and (rows["lands"] - rows["y"]).drop(7).eq(figures.style.SLANT).all()


def test_a_capture_that_begins_late_counts_from_one_and_names_no_client(tmp_path):
    part = tables(toy(tmp_path / "late.pcap", *EXCHANGE, *SERVER_CLOSES))
    assert figures.ladder_rows(part.capture, 0)["label"].iloc[0] == "PSH, ACK seq=1 ack=1 len=27"
    shown = texts(figures.ladder(part.capture, 0, exchanges=part.exchanges, states=part.states))
    assert sum(text.startswith("one end\n") for text in shown) == 2
    figures.waterfall(part, new())
    figures.state_bands(part.states, new())
    figures.time_wait_curve(part.states, ax=new())


# The waterfall

def test_waterfall_has_one_row_a_connection_and_one_bar_an_exchange(page):
    ax = figures.waterfall(page, between=(0, 1.5))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["50000", "50001"]
    bar, = marked(ax, "0 1 /")
    assert bar.get_x() == pytest.approx(300) and bar.get_width() == pytest.approx(100)
    assert bar.get_facecolor() == matplotlib.colors.to_rgba(figures.COLOURS["page"])
    assert ax.get_xlabel() == "Time (ms)" and "/" in texts(ax)


def test_waterfall_tells_who_pays_and_which_connection_was_never_used(page):
    ax = figures.waterfall(page)
    assert ax.get_xlabel() == "Time (s)"
    assert {"TIME_WAIT, server, 60 s", "TIME_WAIT, client, 60 s", "1 request", "no request"} <= set(texts(ax))
    waits, = marked(ax, "0 server TIME_WAIT")
    assert (waits.get_x(), waits.get_width()) == pytest.approx((1.5, 60))
    for mark, filled in {"0 server FIN": True, "0 client FIN": False,
                         "1 client FIN": True, "1 server FIN": False}.items():
        dot, = marked(ax, mark)
        assert (dot.get_markerfacecolor() != "white") == filled
        assert dot.get_color() == figures.COLOURS[mark.split()[1]]
    probes, = marked(ax, "1 probe")
    assert list(probes.get_xdata()) == [5.0]


@pytest.mark.parametrize("name", ["long-2-images-chromium", "short-7-images-chromium", "short-7-images-firefox"])
def test_no_waiting_begins_before_the_fins_that_cause_it(name):
    """In seconds a request's bar is widened, and FINs that came just after it move to its end: so does TIME_WAIT."""
    experiment = load(name)
    ax = figures.waterfall(experiment)
    for stream in experiment.connections.index:
        fins = [line.get_xdata()[0] for line in ax.lines if str(line.get_gid()).startswith(f"{stream} ")
                and line.get_gid().endswith(" FIN")]
        waits = [patch.get_x() for patch in ax.patches if str(patch.get_gid()).startswith(f"{stream} ")
                 and patch.get_gid().endswith(" TIME_WAIT")]
        assert fins and waits and min(waits) >= max(fins) - 0.05, stream
    plt.close("all")


def test_a_window_shows_only_connections_alive_in_it(page):
    ax = figures.waterfall(page, between=(65, 72))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["50001"]


# States, curve, comparisons

def test_state_bands_are_the_stays(page):
    ax = figures.state_bands(page.states, stream=1)
    own = page.states[page.states["stream"] == 1]
    own = own[own["until"] - own["since"] > 1]
    assert [(patch.get_gid(), patch.get_x(), patch.get_x() + patch.get_width())
            for patch in ax.patches if patch.get_width() > 1] == \
        [(f"1 {stay.host} {stay.state}", pytest.approx(stay.since), pytest.approx(stay.until))
         for stay in own.itertuples()]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["50001 client", "server"]
    assert "TIME_WAIT, 60 s" in texts(ax)
    assert "ESTABLISHED" in [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(figures.state_bands(page.states, new(), stream=[0, 1]).get_yticklabels()) == 4


def test_time_wait_curve_is_the_count(page):
    ax = figures.time_wait_curve(page.states, until=100)
    lines = {line.get_label(): line for line in ax.lines}
    for host in ("client", "server"):
        steps = count(page.states, "TIME_WAIT", host)
        x, y = lines[host].get_data()
        assert list(x[1:-1]) == list(steps.index) and list(y[1:-1]) == list(steps)
    assert {"client: 1", "server: 1"} <= set(texts(ax))


def test_time_wait_curve_has_the_kernels_counts_as_dots(page):
    sockets = page.states.rename(columns={"since": "first_seen", "until": "last_seen"})
    ax = figures.time_wait_curve(page.states, sockets, until=80)
    x, y = next(line for line in ax.lines if line.get_label() == "server, kernel").get_data()
    assert list(y) == [count(page.states, "TIME_WAIT", "server", at) for at in x] and max(y) == 1


def test_curves_side_by_side_share_axes_that_hold_them_all(page):
    axes = figures.figure(3, ncols=2, sharex=True, sharey=True)[1]
    both = pd.concat([page.states, page.states.assign(stream=7)])
    figures.time_wait_curve(both, ax=axes[0], until=100)
    figures.time_wait_curve(page.states, ax=axes[1], until=80)
    assert axes[1].get_xlim() == (0, 100) and axes[1].get_ylim()[1] > 2


def test_no_time_wait_at_all_is_a_flat_curve(tmp_path):
    ax = figures.time_wait_curve(states(toy(tmp_path / "t.pcap", *HANDSHAKE)))
    assert {"client: 0", "server: 0"} <= set(texts(ax))


def test_bill_prints_every_number():
    names = ["connections", "packets", "$x$"]
    table = pd.DataFrame({"long": [0.0012, 2.1, None], "short": [1, 10, 1]}, index=names)
    ax = figures.bill(table.convert_dtypes())
    assert texts(ax)[:3] == ["0.0012  long", "2.1  long", "cannot tell  long"]
    assert texts(ax)[3:] == ["1  short", "10  short", "1  short"]
    assert [bar.get_width() for bar in ax.patches] == [0.0012, 2.1, 0, 1, 10, 1]
    assert [label.get_text() for label in ax.get_yticklabels()] == names


def test_connection_counts_places_every_load():
    counts = pd.DataFrame({"browser": ["a", "a", "a", "b"], "start": ["warm"] * 4, "images": [0, 0, 7, 7],
                           "repeat": [1, 2, 1, 1], "connections": [2, 2, 6, 5], "used": [1, 1, 6, 5]})
    ax = figures.connection_counts(counts, article=pd.DataFrame(
        {"images": [0, 7, 7], "connections": [3, 6, None]}).convert_dtypes())
    first, second = (group.get_offsets() for group in ax.collections if "warm" in group.get_label())
    assert [tuple(np.round(point).astype(int)) for point in first] == [(0, 2), (1, 6)]
    assert [tuple(np.round(point).astype(int)) for point in second] == [(1, 5)]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "7"]


# Text from a capture

def test_closer_shares_fill_each_bar():
    table = pd.DataFrame({"row": ["b", "b", "b", "b", "a"], "column": pd.Categorical(["y", "y", "y", "x", "x"], ["x", "y"]),
                          "closer": ["client", "both", "server", "server", "client"]})
    ax = figures.closer_shares(table)
    widths = {patch.get_gid(): patch.get_width() for patch in ax.patches if patch.get_gid()}
    assert {gid: width / 0.92 for gid, width in widths.items() if width} == pytest.approx(
        {"b y client": 1 / 3, "b y both": 1 / 3, "b y server": 1 / 3, "b x server": 1, "a x client": 1})
    assert [label.get_text() for label in ax.get_xticklabels()] == ["x", "y"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "a"]
    assert sorted(text.get_text() for text in ax.texts) == ["100", "100", "33", "33", "33"]


def test_client_counts_hold_the_medians():
    table = pd.DataFrame({"client": ["b", "b", "b", "a"], "connections": [40, 50, 90, 400],
                          "time_wait_client": [0, 0, 0, 0], "time_wait_server": [30, 48, 60, 0]})
    ax = figures.client_counts(table)
    drawn = {group.get_label(): group.get_offsets().tolist() for group in ax.collections if not group.get_label().startswith("_")}
    assert drawn == {"connections": [[50, 0], [400, 1]], "TIME_WAIT at the client": [], "TIME_WAIT at the server": [[48, 0]]}
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "a"]
    assert [text.get_text() for text in ax.texts] == ["50", "400"] and ax.get_xscale() == "log"


def test_lines_hold_the_table_and_name_their_ends():
    table = pd.DataFrame({"slow": [1, 2, 4], "fast": [10, 100, 1000]}, index=[0.0, 1.0, 2.0])
    ax = figures.lines(table, ylabel="made", log=True, expected=pd.Series({"slow": 3}))
    drawn = {line.get_label(): list(line.get_ydata()) for line in ax.lines if line.get_label() in table}
    assert drawn == {"slow": [1, 2, 4], "fast": [10, 100, 1000]}
    assert {text.get_text() for text in ax.texts} == {"slow", "fast"}
    assert ax.get_yscale() == "log" and ax.get_ylabel() == "made"


def test_stacked_bars_add_up():
    table = pd.DataFrame({"proxy": [0, 1500], "upstream": [2000, 0]}, index=["one", "two"])
    ax = figures.stacked(table, xlabel="sockets")
    assert [patch.get_width() for patch in ax.patches] == [0, 1500, 2000, 0]
    assert sorted(text.get_text() for text in ax.texts) == ["1,500", "1,500", "2,000", "2,000"]


def test_poster_shows_every_verdict():
    table = pd.DataFrame({"says": ["a $claim$", "another"], "verdict": ["stands", "stands only if"],
                          "condition": ["", "it rains"]}, index=[1, 2])
    ax = figures.poster(table)
    words = " ".join(text.get_text() for text in ax.texts)
    assert "a $claim$" in words and "stands only if it rains" in words
    assert [patch.get_gid() for patch in ax.patches] == ["1 stands", "2 stands only if"]


def test_hostile_text_stays_text(tmp_path):
    size = len(HOSTILE)
    part = tables(toy(tmp_path / "t.pcap", *HANDSHAKE, ("C", 0.3, "PA", 1, 1, HOSTILE),
                      ("S", 0.9, "PA", 1, 1 + size, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")))
    assert len(part.exchanges) == 1
    for ax in (figures.ladder(part.capture, 0, new(), exchanges=part.exchanges),
               figures.waterfall(part, new(), (0.2, 1))):
        shown = [text for text in texts(ax) if "$" in text or "x…" in text]
        assert shown and all(len(text) < 50 and text.isprintable() for text in shown)
        assert not any(text.get_parse_math() for text in ax.texts)
        ax.figure.canvas.draw()
    assert figures.plain("a\x1b[31m\nb\u202e") == r"a\x1b[31m\nb\u202e"


@pytest.mark.parametrize("seconds, words", [
    (65.0009, "65.0 s"), (311.9, "312 s"), (4.8, "4.80 s"), (0.99999, "1.00 s"), (0.0123, "12.3 ms"),
    (0.000085, "85 µs"), (9.999, "10.0 s"), (0, "0 µs")])
def test_durations_have_three_digits(seconds, words):
    assert figures.duration(seconds) == words


@pytest.mark.parametrize("target, kind", [("/", "page"), ("/index.html?a=b.jpg", "page"), ("/1.JPG", "image"),
                                          ("/favicon.ico", "other"), ("*", "other")])
def test_kinds_of_target(target, kind):
    assert figures.kind_of(target) == kind


# Showing

def test_show_gives_the_alternative_text_twice_and_closes_the_figure(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    fig, ax = figures.figure(2)
    figures.show(fig, "A line that rises.")
    data, metadata = shown[0]._repr_png_()
    assert repr(shown[0]) == "<Figure: A line that rises.>" and metadata == {"alt": "A line that rises."}
    assert data.startswith(b"\x89PNG") and not plt.get_fignums()
    assert not ax.spines["top"].get_visible() and fig.get_size_inches()[1] == 2


def test_drawing_leaves_the_readers_own_style_alone(page):
    before = dict(plt.rcParams)
    figures.time_wait_curve(page.states)
    assert dict(plt.rcParams) == before


# The shipped recordings

def shipped():
    """Recordings of few connections, some of each kind."""
    kinds = ("*-7-images-replay", "long-7-images-[cf]*", "idle-close-quiet")
    try:
        files = [file for kind in kinds for file in data_folder().glob(f"{kind}/experiment.json")]
    except FileNotFoundError:
        return []
    return sorted(file.parent for file in files if not file.parent.name.startswith("."))


@pytest.mark.parametrize("folder", shipped(), ids=lambda folder: folder.name)
def test_a_shipped_recording_can_be_drawn(folder):
    experiment = Experiment(folder)
    table = experiment.connections
    ax = figures.waterfall(experiment)
    assert len(ax.get_yticklabels()) == len(table)
    bars = [patch for patch in ax.patches if len(str(patch.get_gid()).split(" ", 2)) == 3
            and str(patch.get_gid()).split(" ")[1].isdigit()]
    assert len(bars) == len(experiment.exchanges)
    assert texts(ax).count("no request") == len(set(table.index) - set(experiment.exchanges["stream"]))
    figures.ladder(experiment.capture, table.index[0], new(), None, experiment.exchanges, experiment.states)
    plt.close("all")


@pytest.mark.parametrize("back", [86_400, 30 * 86_400])
def test_time_that_goes_back_is_drawn_in_bounds(tmp_path, back):
    capture = toy(tmp_path / "toy.pcap", *HANDSHAKE, *SERVER_CLOSES)
    stays = states(capture)
    earlier = stays.assign(since=stays["since"] - back, until=stays["until"] - back)
    fig, ax = figures.figure(4)
    figures.time_wait_curve(pd.concat([earlier, stays]), ax=ax)
    width, height = struct.unpack(">II", figures.png_of(fig)[16:24])
    assert 800 < width < 1500 and 300 < height < 900 and ax.get_xlim()[0] <= -back + 60


def test_what_stands_far_outside_a_figure_is_cut_off():
    fig, _ = figures.figure(4)
    fig.text(1000, 0.5, "far")
    assert max(struct.unpack(">II", figures.png_of(fig)[16:24])) < 2000


def test_page_loads_have_a_row_for_each_connection_and_a_bar_for_each_request():
    """Over TCP and over QUIC; the connections and requests are those of the tables."""
    loads = {"HTTPS": load("https-7-images-chromium"), "HTTP/3": load("h3-7-images-chromium")}
    ax = figures.page_loads(loads, new(), until=0.2)
    rows = {name: figures.load_rows(experiment, 0.2) for name, experiment in loads.items()}
    page = loads["HTTPS"].connections.query("server.str.endswith(':443')")
    assert [row[0] for row in rows["HTTPS"]] == page["client"].str.rsplit(":", n=1).str[1].tolist()
    assert [text.get_text() for text in ax.get_yticklabels()] == [row[0] for of_one in rows.values() for row in of_one]
    bars = [patch.get_gid().partition(" ")[2] for patch in ax.patches]
    assert bars.count("TCP handshake") == 6 and bars.count("TLS or QUIC handshake") == 7
    assert sorted(bar for bar in bars if bar.startswith("/")) == sorted(
        row for of_one in rows.values() for *_, asked in of_one for row in asked["target"])
    assert {text.get_text() for text in ax.texts} == set(loads)


def test_a_load_is_ready_when_the_first_request_may_be_sent():
    """TLS's handshake is over after TCP's and before the first request, on every connection of every recording."""
    for name in ("long-7-images-firefox", "https-7-images-firefox", "h2-7-images-chromium", "resumption"):
        for _, opened, established, ready, asked in figures.load_rows(load(name)):
            assert opened <= established <= ready and (asked["requested"] >= ready).all(), name


def test_page_bill_prints_every_total():
    table = pd.DataFrame({"connections": [6, 1], "round trips": [12, 1], "packets": [1234, 10], "client": [1, 0],
                          "server": [5, 0]}, ["long", "HTTP/3"])
    axes = figures.figure(3, 9, ncols=4)[1]
    figures.page_bill(table, axes)
    told = [[text.get_text() for text in ax.texts] for ax in axes]
    assert told == [["6", "1"], ["12", "1"], ["1,234", "10"], ["6", "0"]]
    assert [bar.get_width() for bar in axes[3].patches] == [1, 0, 5, 0]


def test_the_decision_tree_leads_to_every_finding_about_the_network():
    """And to none that there is not; no two texts overlap."""
    leaves = [finding for _, leaves in figures.TREE for _, finding in leaves]
    assert sorted(leaves) == sorted(RULES.keys() - FILE_RULES.keys())
    fig, ax = figures.figure(6.0)
    figures.decision_tree(ax)
    fig.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
    assert len(boxes) == 3 + len(figures.TREE) + 2 * len(leaves)
    assert not [(one, other) for place, one in enumerate(boxes) for other in boxes[place + 1:] if one.overlaps(other)]


def test_a_dot_for_each_true_cell():
    table = pd.DataFrame({"one": [True, False, True], "two": [False, False, True]}, ["a", "b", "c"])
    ax = figures.dots(table, figures.figure(2)[1])
    points, = ax.collections[-1:]
    assert sorted(map(tuple, points.get_offsets().tolist())) == [(0, 0), (0, 2), (1, 2)]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b", "c"] and ax.yaxis_inverted()
    assert [label.get_text() for label in ax.get_xticklabels()] == ["one", "two"]
