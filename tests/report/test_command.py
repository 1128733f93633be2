"""The report's options: JSON, private, standard input; and one clear line where something is wrong."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import report
from helpers.captures import merge_captures
from helpers.experiments import table
from helpers.pieces import read_captures

COMMAND = [sys.executable, "-m", "helpers.report"]


@pytest.fixture(scope="module")
def path(data):
    return data / "long-7-images-replay" / "capture.pcapng"


def test_json_holds_the_same_facts(path, capsys):
    assert report.main([str(path), "--json"]) == 0
    told, incident = json.loads(capsys.readouterr().out), report.Incident(merge_captures([path]))
    assert told["capture"]["frames"] == incident.capture.frames and told["capture"]["cut"] is None
    assert len(told["connections"]) == len(incident.connections) and len(told["states"]) == len(incident.states)
    assert [row["target"] for row in told["exchanges"]] == incident.exchanges["target"].tolist()
    assert told["servers"][0]["requests"] == len(incident.exchanges)
    assert [row["peak"] for row in told["peaks"]] == report.peaks(incident)["peak"].tolist()


def test_private_numbers_the_addresses_and_leaves_targets_out_everywhere(path, capsys, tmp_path):
    page, whole = tmp_path / "page.html", report.Incident(merge_captures([path]))
    assert report.main([str(path), "--private", "--out", str(page)]) == 0
    texts = [capsys.readouterr().out.rpartition("\nThe page")[0], page.read_text(encoding="utf-8")]
    assert report.main([str(path), "--private", "--json"]) == 0
    texts.append(capsys.readouterr().out)
    addresses = set(whole.segments["src"].astype(str)) | set(whole.segments["dst"].astype(str))
    targets = [target for target in whole.exchanges["target"] if len(target) > 1]
    for text in texts:
        text = re.sub("base64,[^\"]*", "", text)
        assert not [secret for secret in (*addresses, *targets, str(path.parent)) if secret in text]
        assert "host-2:80" in text
    assert "host-1:" in texts[1] and "host-1:" in texts[2]
    told = json.loads(texts[2])
    ports = [row["client"].rpartition(":")[2] for row in told["connections"]]
    assert ports == [name.rpartition(":")[2] for name in whole.connections["client"]]


def secrets_of(capture):
    """Addresses, targets and names in a capture that a private report must not show."""
    incident = report.Incident(capture)
    names = [*incident.connections["server_name"].dropna(), *incident.quic["server_name"].dropna()]
    addresses = [text for table in (capture.segments, capture.datagrams) for side in ("src", "dst")
                 for text in table[side].astype(str).unique()]
    return {*addresses, *names, *(text for text in incident.exchanges["target"].dropna() if len(text) > 5)}


def test_private_holds_for_tls_and_quic_and_every_recording(data, capsys):
    named = 0
    for path in sorted(data.glob("*/capture.pcapng"))[::24] + [
            data / name / "capture.pcapng" for name in ("h2-1-images-firefox", "h3-1-images-firefox", "clinic-linger")]:
        secrets = secrets_of(merge_captures([path]))
        for options in ([], ["--json"]):
            assert report.main([str(path), "--private", *options]) == 0
            told = capsys.readouterr().out
            assert not [secret for secret in secrets if re.search(rf"(?<![\w.]){re.escape(secret)}(?![\w.])", told)]
        named += len(secrets)
    assert named > 10


def test_standard_input(path):
    done = subprocess.run([*COMMAND, "-", "--json"], input=path.read_bytes(), capture_output=True, check=True)
    assert json.loads(done.stdout)["capture"]["frames"] == merge_captures([path]).frames and not done.stderr


@pytest.mark.skipif(os.name == "nt", reason="symbolic links")
def test_what_goes_wrong_is_one_line(path, tmp_path, capsys):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for out, says in ((str(loop), "give --out another name"), ("", "--out: no name given")):
        assert report.main([str(path), "--out", out]) == 2
        said = capsys.readouterr().err
        assert says in said and said.count("\n") == 1
    assert report.main(["-", "-"]) == 2 and "once" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(path):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*COMMAND, path], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "can't print the report" in done.stderr


def test_ctrl_c_is_one_line(path, capsys, monkeypatch):
    def interrupted(*paths):
        raise KeyboardInterrupt
    monkeypatch.setattr("helpers.report.command.merge_captures", interrupted)
    assert report.main([str(path)]) == 130 and capsys.readouterr().err == "helpers.report: interrupted\n"


def test_memory_that_is_too_small_is_one_line(path, capsys, monkeypatch):
    def too_large(capture):
        raise MemoryError
    monkeypatch.setattr(sys.modules["helpers.report.facts"], "states", too_large)
    assert report.main([str(path)]) == 2 and "helpers.pieces.read_captures" in capsys.readouterr().err


@pytest.mark.parametrize("call, says", [
    (lambda: table("../data/article-2018"), "no table"), (lambda: table("long-7-images-firefox/sockets"), "no table"),
    (lambda: table(["ports"]), "no table"), (lambda: merge_captures(3), "list of paths"),
    (lambda: list(read_captures([])), "no paths given"), (lambda: list(read_captures(7)), "list of paths"),
    (lambda: list(read_captures("x.pcap", piece=0)), "at least 1 byte")])
def test_a_call_that_makes_no_sense_says_so(call, says):
    with pytest.raises((ValueError, TypeError), match=says):
        call()
