"""TIME_WAIT at work: what the recordings show, from packets and from `ss`; and two live miniatures."""

import os

import pandas as pd
import pytest
from conftest import lacking

from helpers.captures import read_capture
from helpers.experiments import Experiment, load
from helpers.testbed.experiments.lifetimes import LIFETIMES, LostAck, Protection
from helpers.testbed.hosts import programs
from helpers.testbed.running import workers

SAMPLED = 0.25
LASTS = 59.7, 62.3
GONE = {"new SYN", "old SYN, later timestamp", "RST"}
TASKS = {task.name: task for task in LIFETIMES}


def stays(experiment, state, host="server"):
    """The stays that `ss` saw on `host` in `state`, by the client's socket, with how long each lasted."""
    table = experiment.sockets[(experiment.sockets["host"] == host) & (experiment.sockets["state"] == state)]
    client = table["peer"] if host == "server" else table["local"]
    return table.assign(client=client, lasted=table["last_seen"] - table["first_seen"]).set_index("client")


def elsewhere(experiment):
    """The segments at the other end of the wire."""
    return read_capture(experiment.folder / experiment.about["capture_elsewhere"]["file"]).segments


def lines(experiment, name):
    """Who sent or received which texts: by client port and visit."""
    table = pd.read_csv(experiment.folder / f"{name}.csv")
    return table.groupby(["client_port", "nth"])["text"].apply(list).to_dict()


@pytest.mark.parametrize("name", [name for name in TASKS if name.startswith("timers")])
def test_fin_timeout_bounds_fin_wait_2_and_not_time_wait(name, measured):
    experiment, task = load(name), TASKS[name]
    table, seconds = experiment.connections, experiment.fin_timeout
    assert f"timers-{seconds:g}" == name and (table["closer"] == "server").all()
    late, answered = table[table["time_wait"] == "none"], table[table["time_wait"] == "server"]
    assert len(late) == task.late and len(answered) == len(task.answers)
    forgotten, waited = stays(experiment, "FIN_WAIT_2").loc[late["client"]], stays(experiment, "TIME_WAIT")
    assert forgotten["lasted"].between(seconds - 2 * SAMPLED, seconds + (0.5 if seconds < 60 else 2.3)).all()
    assert waited["lasted"].between(*LASTS).all()
    assert sorted(waited.index) == sorted(answered["client"])
    assert stays(experiment, "TIME_WAIT", "client").empty
    spans = (f"{state} {lasted.min():.1f} to {lasted.max():.1f} s" for state, lasted in (
        ("FIN_WAIT_2", forgotten["lasted"]), ("TIME_WAIT", waited["lasted"])))
    measured(f"timers   {name:24} {', '.join(spans)}")


@pytest.mark.parametrize("name", [name for name in TASKS if name.startswith("timers")])
def test_who_answers_too_late_is_reset(name):
    experiment = load(name)
    table = experiment.connections
    for stream in table.index[table["time_wait"] == "none"]:
        last = experiment.segments[experiment.segments["stream"] == stream].iloc[-2:]
        assert last["host"].tolist() == ["client", "server"] and last["flags"].tolist() == ["FA", "R"]


@pytest.fixture(scope="module")
def answers():
    return pd.read_csv(load("protection").folder / "answers.csv").set_index(["case", "kernel"])


def test_what_time_wait_answers(answers):
    said = {case: (row.answer, row.answer_seq, row.answer_ack)
            for case, row in zip(answers.index, answers.itertuples()) if isinstance(row.answer, str)}
    old = "A", 0, 0
    assert said == {
        ("new SYN", "answers"): ("SA", 65537, 100_001),
        ("old SYN, later timestamp", "answers"): ("SA", 65537, -99_999),
        ("old SYN", "answers"): old, ("old SYN", "silent"): old,
        ("old data", "answers"): old, ("old data", "silent"): old, ("FIN again", "silent"): old}


def test_a_time_wait_ends_by_a_new_connection_or_a_reset_only(answers):
    """The client's kernel resets what it doesn't know: so an old packet may end a TIME_WAIT (RFC 1337)."""
    sent = answers.drop(index=("nothing", "answers"))
    ended = sent.index[~sent["time_wait_after"].astype(bool)]
    assert set(ended) == {(case, "answers") for case in GONE | {"old SYN", "old data"}}
    assert (sent["reaction"].notna() == [case in ended and case[0] != "RST" for case in sent.index]).all()
    assert (sent["sent_at"] - sent["time_wait_until"])[ended].between(-0.05, SAMPLED).all()


def test_old_data_and_a_fin_restart_the_timer_and_an_old_syn_does_not(answers):
    left = (answers["time_wait_until"] - answers["sent_at"]).xs("silent", level="kernel")
    assert left[["old data", "FIN again"]].between(*LASTS).all()
    undisturbed = answers["time_wait_until"]["nothing", "answers"]
    same = answers["time_wait_until"][[("old SYN", "silent"), ("RST, one below", "answers")]]
    assert (abs(same - undisturbed) < SAMPLED).all()


def test_the_account_is_what_the_packets_say(answers):
    experiment = load("protection")
    segments, start = experiment.segments, experiment.capture.start.value / 1e9
    for row in answers.dropna(subset=["sent_at"]).itertuples():
        port, at = int(row.client.rsplit(":")[1]), row.sent_at - start
        mine = segments[(segments["sport"] == port) | (segments["dport"] == port)]
        mine = mine[mine["time"].between(at - 0.001, at + 1)]
        expected = [row.sent, *(flags for flags in (row.answer, row.reaction) if isinstance(flags, str))]
        assert mine["flags"].tolist() == expected


def test_a_lost_last_ack_is_given_again_out_of_time_wait(measured):
    experiment, task = load("lost-last-ack"), TASKS["lost-last-ack"]
    waited, there = stays(experiment, "TIME_WAIT", "client"), elsewhere(experiment)
    for losses, connection in zip(task.losses, experiment.connections.itertuples()):
        mine = experiment.segments[experiment.segments["stream"] == connection.Index]
        fins = mine[(mine["host"] == "server") & mine["flags"].str.contains("F")]
        sent, arrived = (table[(table["sport"] == mine["sport"].iloc[0]) & (table["flags"] == "A")
                               & (table["ack"] == fins["seq"].iloc[0] + 1)] for table in (mine, there))
        assert (len(fins), len(sent), len(arrived)) == (losses + 1, losses + 1, 1)
        lasted = waited["last_seen"][connection.client] - fins["time"].iloc[-1]
        assert LASTS[0] < lasted < LASTS[1] and connection.time_wait == "client"
        gaps = fins["time"].diff().dropna().round(2).tolist()
        measured(f"last ACK {connection.client:24} lost {losses} times: FIN after {gaps} s, "
                 f"TIME_WAIT {lasted:.1f} s after the last")


def test_where_nobody_waits_the_fin_is_reset():
    experiment = load("lost-last-ack-no-time-wait")
    assert experiment.segments["flags"].tolist()[-3:] == ["FA", "FA", "R"]
    assert elsewhere(experiment)["flags"].tolist()[-4:] == ["FA", "A", "FA", "R"]
    assert "TIME_WAIT" not in set(experiment.sockets["state"])
    assert experiment.connections["time_wait"].tolist() == ["none"]


def test_time_wait_keeps_the_old_segment_out():
    experiment = load("old-duplicate-refused")
    received = lines(experiment, "received")
    assert received == lines(experiment, "sent")
    assert sorted(received) == [(40001, 1), (40002, 1), (40003, 1), (40003, 2)]
    actions = experiment.timeline["action"].tolist()
    assert "port 40001: visit B can't begin: Cannot assign requested address" in actions
    answers = {port: answer["flags"] for port, _, answer in old_segments(experiment)}
    assert answers == {40001: "R", 40002: "A", 40003: "A"}


def test_without_time_wait_the_old_segment_is_read_as_the_new_visits():
    experiment = load("old-duplicate-accepted")
    sent, received = lines(experiment, "sent"), lines(experiment, "received")
    for port in (40001, 40002):
        assert sent[port, 2] == ["visit B, line 1", "visit B, line 2", "visit B, line 3"]
        assert received[port, 2] == ["visit B, line 1", "visit A, line 3", "visit B, line 3"]
    assert stays(experiment, "TIME_WAIT").index.isin(["10.77.0.1:40002"]).all()
    for _, old, answer in old_segments(experiment):
        assert answer["length"] and answer["ack"] == old["seq"] + old["length"]


def test_the_old_segment_is_the_first_visits_own():
    """What arrives late at the server is, byte by byte, what the client had sent in visit A."""
    for name in ("old-duplicate-refused", "old-duplicate-accepted"):
        experiment = load(name)
        sent = elsewhere(experiment)
        for _, old, _ in old_segments(experiment):
            alike = sent[(sent[["sport", "seq", "ack"]] == old[["sport", "seq", "ack"]]).all(axis=1)]
            assert len(alike) >= 2 and (alike["time"] < old["time"] - 0.3).all()
            assert experiment.capture.payload(old.name) == b"visit A, line 3\n"


def test_a_reset_ends_the_time_wait_that_stood_in_the_way():
    """RFC 1337: visit B's SYN is answered by the old numbers; the client's RST ends the TIME_WAIT."""
    segments = load("old-duplicate-accepted").segments
    visit_b = segments[(segments["stream"] == segments["stream"].max())]
    assert visit_b["flags"].tolist()[:5] == ["S", "A", "R", "S", "SA"]
    syn, answer, reset, again = (frame for _, frame in visit_b.iloc[:4].iterrows())
    assert reset["seq"] == answer["ack"] and syn["seq"] == again["seq"]


def old_segments(experiment):
    """(client port, old segment, the server's answer) of each case, at the server."""
    segments, timeline = experiment.segments, experiment.timeline
    for action in timeline[timeline["action"].str.contains("deliver")].itertuples():
        port = int(action.action.split()[1].rstrip(":"))
        mine = segments[(segments["sport"] == port) | (segments["dport"] == port)]
        mine = mine[mine["time"] >= action.time]
        yield port, mine.iloc[0], mine.iloc[1]


MINIATURES = (
    Protection("protection", "A miniature", "", spacing=0.7, limit=0,
               packets=(("new SYN", True), ("old SYN", True), ("old data", False))),
    LostAck("lost-last-ack", "A miniature", "", losses=(0, 1), limit=0))


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """The miniatures, recorded now: their experiments by name."""
    if why := reason_not_to_record():
        lacking(f"nothing can be recorded here: {why}")
    folder = tmp_path_factory.mktemp("live")
    assert workers.record(MINIATURES, folder, len(MINIATURES)) == {}
    return {task.name: Experiment(folder / task.name) for task in MINIATURES}


def reason_not_to_record():
    try:
        programs.check()
    except programs.Unable as why:
        return why
    return None if os.access("/dev/net/tun", os.R_OK | os.W_OK) else "/dev/net/tun can't be used"


def test_live_packets_into_time_wait(live):
    account = pd.read_csv(live["protection"].folder / "answers.csv").set_index("case")
    assert account["answer"][["new SYN", "old SYN", "old data"]].tolist() == ["SA", "A", "A"]
    assert account["answer_seq"]["new SYN"] == 65537
    assert account["time_wait_after"][["new SYN", "old SYN", "old data"]].tolist() == [False, False, True]


def test_live_wire_is_long_and_loses_an_ack(live):
    experiment = live["lost-last-ack"]
    syn, answer = experiment.segments["time"].iloc[:2]
    assert 0.04 <= answer - syn < 0.06
    theirs = experiment.segments[experiment.segments["host"] == "server"]
    fins = theirs[theirs["flags"].str.contains("F")]
    assert fins.groupby("stream").size().tolist() == [1, 2]
    assert set(stays(experiment, "TIME_WAIT", "client").index) == set(experiment.connections["client"])
