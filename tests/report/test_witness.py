"""A kernel's lists beside the packets: the samples of the recordings, written as `ss` with `date` would have."""

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from helpers import figures, report
from helpers.captures import merge_captures
from helpers.experiments import load
from helpers.report import Incident, findings, page, pictures
from helpers.report.witness import witness
from helpers.sockets import read_sockets

OF_SS = {"ESTABLISHED": "ESTAB", "SYN_RECEIVED": "SYN-RECV", "FIN_WAIT_1": "FIN-WAIT-1", "FIN_WAIT_2": "FIN-WAIT-2"}
RECORDINGS = ["clinic-close-wait", "clinic-no-reuse", "closers-race", "long-7-images-chromium", "short-7-images-firefox",
              "timers-60"]
SAMPLED = [(name, host) for name in RECORDINGS for host in ("client", "server")
           if (load(name).sockets["host"] == host).any()]


def line(socket):
    return f"{OF_SS.get(socket.state, socket.state.replace('_', '-'))} 0 0 {socket.local} {socket.peer}"


def snapshots(experiment, host):
    """(UNIX time, lines) when this host was asked and something had changed, and every 5 s where nothing had.

    The recordings have the time just before `ss` was asked, and just after.
    """
    sockets = experiment.sockets[experiment.sockets["host"] == host]
    times = np.unique(np.r_[sockets["first_seen"], sockets["last_seen"]])
    between = [np.arange(one + 5, other - 1, 5) for one, other in pairwise(times)]
    times = np.unique(np.concatenate([times, *between]))
    for moments in np.split(times, np.flatnonzero(np.diff(times) > 0.05) + 1):
        there = sockets[(sockets["first_seen"] <= moments[-1]) & (sockets["last_seen"] >= moments[0])]
        yield moments[0] + experiment.capture.start.value / 1e9, [line(socket) for socket in there.itertuples()]


def listing(path, lists, clock="{:.6f}".format):
    path.write_text("".join(f"{clock(time)}\n" + "".join(text + "\n" for text in lines) for time, lines in lists))
    return path


@pytest.fixture
def listed(tmp_path):
    return lambda *lists, **clock: listing(tmp_path / "ss.txt", *lists, **clock)


def compared(name, path):
    experiment = load(name)
    return witness(experiment.capture, experiment.states, read_sockets(path))


@pytest.mark.parametrize(("name", "host"), SAMPLED)
def test_the_kernel_and_the_packets_agree(listed, name, host, measured):
    told = compared(name, listed(snapshots(load(name), host)))
    measured(f"lists    {name:24} {told.places['agree'].sum()} of {len(told.places)} places agree, at the {host}")
    assert not told.trouble and len(told.times) > 1 and not told.strangers
    assert len(told.places) > 5 and told.places["agree"].all()
    assert set(told.places["host"]) == {host} and set(told.places["kernel"]) == set(told.places["packets"])


@pytest.mark.parametrize(("name", "host"), SAMPLED)
def test_a_clock_of_whole_seconds_is_enough(listed, name, host):
    lists = [(time, lines) for time, lines in snapshots(load(name), host) if lines]
    told = compared(name, listed(lists[::5], clock=lambda time: str(int(time))))
    assert len(told.times) and told.places["agree"].all()


def test_the_comparison_bites(listed):
    """One state changed, one socket taken away, one added; and all lists two seconds late."""
    lists = [pair for pair in snapshots(load("clinic-close-wait"), "client") if any("CLOSE-WAIT" in it for it in pair[1])]
    time, lines = lists[0]
    for other in ([lines[0].replace("CLOSE-WAIT", "LAST-ACK"), *lines[1:]], lines[1:]):
        places = compared("clinic-close-wait", listed([(time, other)])).places
        assert (len(places), places["agree"].sum()) == (len(lines), len(lines) - 1)
    stranger = compared("clinic-close-wait", listed([(time, [*lines, "ESTAB 0 0 10.77.0.1:1 10.9.9.9:2"])]))
    assert stranger.places["agree"].all() and stranger.strangers == 1
    late = compared("clinic-close-wait", listed((moment + 2, lines) for moment, lines in snapshots(
        load("clinic-close-wait"), "client")))
    assert (~late.places["agree"].astype(bool)).sum() > 5


def test_a_shorter_timer_of_the_kernel_is_told(listed, capsys):
    """The server's kernel forgot FIN_WAIT_2 after 10 s, and the report takes 60."""
    experiment, path = load("timers-10"), listed(snapshots(load("timers-10"), "server"))
    assert report.main([experiment.capture.path, "--sockets", str(path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("the kernel: none, the packets: FIN_WAIT_2") == 3


@pytest.mark.parametrize(("clock", "why"), [
    (lambda time: "", "its lists have no times; put `date -u` before each one"),
    (lambda time: "2026-11-27 10:59:34", "its times name no time zone"),
    (lambda time: f"{time - 1e6:.6f}", "none of its lists was made while the capture was recorded")])
def test_what_can_not_be_compared_is_one_sentence(listed, clock, why, capsys):
    path = listed(snapshots(load("clinic-close-wait"), "client"), clock=clock)
    assert report.main([load("clinic-close-wait").capture.path, "--sockets", str(path)]) == 0
    assert why in " ".join(capsys.readouterr().out.split())


def test_another_machines_list(listed, capsys):
    path = listed([(load("clinic-close-wait").capture.start.value / 1e9 + 1, ["ESTAB 0 0 10.9.9.9:80 10.9.9.8:5000"])])
    assert report.main([load("clinic-close-wait").capture.path, "--sockets", str(path)]) == 0
    assert "none of its sockets is an end of a connection" in " ".join(capsys.readouterr().out.split())


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    """An incident with the lists of both machines; the paths of capture and lists."""
    experiment, folder = load("long-7-images-chromium"), tmp_path_factory.mktemp("lists")
    paths = [listing(folder / f"{host}.txt", snapshots(experiment, host)) for host in ("client", "server")]
    return Incident(merge_captures([experiment.capture.path]), lists=[read_sockets(path) for path in paths]), paths


def test_terminal_json_and_private_say_the_same(beside, capsys):
    incident, paths = beside
    arguments = [incident.capture.path, *(word for path in paths for word in ("--sockets", str(path)))]
    sizes = [len(one.places) for one in incident.witnesses]
    for option in ([], ["--private"]):
        assert report.main([*arguments, *option]) == 0
        out = capsys.readouterr().out
        assert max(len(text) for text in out.splitlines() if "/" not in text) <= 80
        assert [int(number.replace(",", "")) for number in re.findall(r"agree in ([\d,]+)", " ".join(out.split()))] == sizes
        assert ("10.77.0" in out) != bool(option) and (str(Path(paths[0]).parent) in out) != bool(option)
    assert report.main([*arguments, "--private", "--json"]) == 0
    out = capsys.readouterr().out
    assert [len(one["places"]) for one in json.loads(out)["sockets"]] == sizes and "10.77.0" not in out


def test_the_curve_has_the_kernels_dots(beside, monkeypatch):
    """On the page, at the moments of the lists: as many sockets in TIME_WAIT as each list has."""
    incident, drawn = beside[0], []
    curve = figures.time_wait_curve
    monkeypatch.setattr(pictures.figures, "time_wait_curve", lambda *all, **named: drawn.append(curve(*all, **named)))
    html = page(incident)
    marks = {one.get_label(): one for one in drawn[0].lines if "kernel" in one.get_label()}
    assert set(marks) == {"client, kernel", "server, kernel"}
    for one, host in zip(incident.witnesses, ("client", "server")):
        x, y = marks[f"{host}, kernel"].get_data()
        waits = one.places[one.places["kernel"] == "TIME_WAIT"].groupby("time").size()
        assert len(x) > 3 and set(x) <= set(one.times) and y.tolist() == waits.reindex(x, fill_value=0).tolist()
    assert "Marks: what the kernel said at the client and at the server" in html


def test_without_lists_nothing_is_said_of_them(beside):
    incident = Incident(beside[0].capture)
    assert not incident.witnesses and not [text for text in findings(incident) if "kernel" in text]


@pytest.mark.parametrize("text", ["40000-40099", "40000 40099", "40000\t40099", " 40000 - 40099 "])
def test_port_range(tmp_path, text, capsys):
    """Both reports take the range as people write it, and as /proc/sys/net/ipv4/ip_local_port_range has it."""
    waits = "".join(f"TIME-WAIT 0 0 10.0.0.1:{port} 10.0.0.2:443\n" for port in range(40000, 40090))
    (tmp_path / "ss.txt").write_text("LISTEN 0 5 0.0.0.0:22 0.0.0.0:*\n" + waits)
    assert report.main([str(tmp_path / "ss.txt"), "--port-range", text]) == 0
    assert "ports-running-out: 90 × the client 10.0.0.1" in capsys.readouterr().out
    assert report.main([str(tmp_path / "ss.txt")]) == 0
    assert "ports-running-out:" not in capsys.readouterr().out
    capture = load("clinic-no-reuse").capture.path
    ports = load("clinic-no-reuse").connections["client"].str.rpartition(":")[2].astype(int)
    few = ["--port-range", text.replace("40000", str(ports.min())).replace("40099", str(ports.max()))]
    taken = len(ports) >= 0.8 * (ports.max() - ports.min() + 1)
    assert report.main([capture, *few]) == 0
    assert ("port-range-nearly-taken:" in capsys.readouterr().out) == taken


@pytest.mark.parametrize("text", ["40000", "5-4", "0-9", "1-70000", "a-b", "", "1-2-3"])
def test_no_port_range(text, capsys):
    with pytest.raises(SystemExit) as left:
        report.main(["capture.pcap", "--port-range", text])
    assert left.value.code == 2 and "no range of ports; write it like 32768-60999" in capsys.readouterr().err


def test_a_list_is_no_capture(listed, capsys):
    path = listed(snapshots(load("clinic-close-wait"), "client"))
    assert report.main([str(path), "--sockets", str(path)]) == 2
    assert "name the capture first, and this after --sockets" in capsys.readouterr().err
    assert report.main([load("clinic-close-wait").capture.path, "--sockets", str(path.with_name("none"))]) == 2
