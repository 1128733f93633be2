"""HTTPS and HTTP/2 against what tshark reads with the same secrets, and what the server wrote into its log."""

import re
import struct
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from conftest import require
from test_against_tshark import BETWEEN, OVER_TLS, assert_recording, requests, tshark

from helpers.captures import merge_captures, read_capture, read_pieces
from helpers.connections import connections, handshakes
from helpers.exchanges import exchanges, signals
from helpers.experiments import data_folder
from helpers.figures.ladder import ladder_rows
from helpers.pieces import read_captures
from helpers.report import Incident, facts, main, page, summary

SMALL = Path(__file__).parent / "recorded" / "curl-over-tls"
TLS = ("tls.handshake.type", "tls.handshake.extensions_server_name", "tls.handshake.ciphersuite",
       "tls.handshake.extensions.supported_version", "tls.alert_message.desc")
FOLDERS = [SMALL, *(folder for folder in sorted(data_folder().iterdir())
                    if folder.name.startswith(OVER_TLS) and (folder / "capture.pcapng").exists())]
recorded = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


@cache
def capture_in(folder):
    return read_capture(folder / "capture.pcapng")


@cache
def told_by_tshark(folder):
    """A row per frame: what `tshark` of test_against_tshark has, and the fields of `TLS`."""
    return tshark(folder / "capture.pcapng", *TLS)


def frames_with(folder, field, value, *fields):
    """The values of `fields` in each frame in which `field` has this value."""
    rows = told_by_tshark(folder).reset_index()
    return rows[rows[field].str.split(BETWEEN).map(lambda found: value in found)][list(fields)].to_numpy().tolist()


def http2_streams(folder):
    """By (connection, stream): method, path, status, and the times of the frames with the heads, as tshark has them."""
    command = ["tshark", "-r", folder / "capture.pcapng", "-n", "-Y", "http2", "-T", "pdml"]
    found = {}
    for packet in ElementTree.fromstring(subprocess.run(command, capture_output=True, check=True).stdout):
        fields = {field.get("name"): field.get("show") for field in packet.iter("field")}
        time, connection = float(fields["frame.time_relative"]), int(fields["tcp.stream"])
        for part in packet.iter("field"):
            if part.get("name") != "http2.stream":
                continue
            said = {field.get("name"): field.get("show") for field in part.iter("field")}
            one = found.setdefault((connection, int(said.get("http2.streamid", 0))), {})
            if "http2.headers.method" in said:
                one |= {"method": said["http2.headers.method"], "target": said["http2.headers.path"], "requested": time}
            if int(said.get("http2.headers.status", 0)) >= 200:
                one |= {"status": int(said["http2.headers.status"]), "answered": time}
            if said.get("http2.flags.end_stream") in ("1", "True") and "status" in one:
                one.setdefault("finished", time)
    return {key: one for key, one in found.items() if "method" in one}


@recorded
def test_http2_is_read_as_tshark_reads_it(folder, measured):
    require("tshark")
    ours, theirs = exchanges(capture_in(folder)), http2_streams(folder)
    ours = ours[ours["version"] == "2"].sort_values(["stream", "nth"])
    columns = ["method", "target", "status", "requested", "answered", "finished"]
    expected = pd.DataFrame([{"stream": key[0]} | one for key, one in sorted(theirs.items())], columns=["stream", *columns])
    assert len(ours) == len(expected) and (len(ours) or folder.name.startswith("https-"))
    assert ours["stream"].tolist() == expected["stream"].tolist()
    for name in columns[:3]:
        assert ours[name].astype(object).fillna(-1).tolist() == expected[name].astype(object).fillna(-1).tolist(), name
    for name in columns[3:]:
        assert ours[name].fillna(-1).to_numpy(float).round(6).tolist() == expected[name].fillna(-1).round(6).tolist(), name
    measured(f"tshark   {folder.name:24} {len(ours)} exchanges of HTTP/2 equal")


@recorded
def test_https_is_read_as_tshark_reads_it(folder, measured):
    require("tshark")
    ours = exchanges(capture_in(folder))
    ours = ours[ours["version"] != "2"].sort_values("stream", kind="stable")[["stream", "method", "target", "status"]]
    other_cipher = handshakes(capture_in(folder))["unread"].fillna("").str.startswith("cipher")
    theirs = [row for row in requests(told_by_tshark(folder)) if not other_cipher.get(row[0], False)]
    assert [tuple(row) for row in ours.astype(object).to_numpy()] == theirs
    measured(f"tshark   {folder.name:24} {len(theirs)} exchanges of HTTP/1.1 over TLS equal")


@recorded
def test_the_segments_below_too(folder, measured):
    require("tshark")
    measured(f"tshark   {folder.name:24} {assert_recording(capture_in(folder), told_by_tshark(folder))}")


@recorded
def test_handshakes_are_those_that_tshark_sees(folder):
    require("tshark")
    table = handshakes(capture_in(folder))
    hellos = dict(frames_with(folder, "tls.handshake.type", "1", "tcp.stream", "tls.handshake.extensions_server_name"))
    assert table["server_name"].to_dict() == {int(stream): name or None for stream, name in hellos.items()}
    for stream, cipher, versions in frames_with(folder, "tls.handshake.type", "2", "tcp.stream", "tls.handshake.ciphersuite",
                                                "tls.handshake.extensions.supported_version"):
        assert table["version"][int(stream)] == ("1.3" if "0x0304" in versions else "1.2")
        from helpers.protocols.tls_keys import cipher_name
        assert table["cipher"][int(stream)] == cipher_name(int(cipher.split(BETWEEN)[-1], 16))
    assert len(table) >= 1 and table["version"].notna().any()


@recorded
def test_close_notify_stands_where_tshark_sees_it(folder):
    require("tshark")
    theirs = frames_with(folder, "tls.alert_message.desc", "0", "tcp.stream", "frame", "frame.time_relative")
    other_cipher = handshakes(capture_in(folder))["unread"].fillna("").str.startswith("cipher")
    theirs = [row for row in theirs if not other_cipher.get(int(row[0]), False)]
    said = signals(replace(capture_in(folder), derived={})).query("signal == 'close_notify'")   # with nothing done before
    assert sorted(zip(said["stream"], said["time"].round(6))) == sorted((int(s), round(float(t), 6)) for s, _, t in theirs)
    assert theirs or folder != SMALL
    for stream in sorted({int(stream) for stream, *_ in theirs})[:3]:
        rows = ladder_rows(capture_in(folder), stream, exchanges=exchanges(capture_in(folder)))
        marked = set(rows["frame"][rows["http"].str.contains("close_notify")])
        frames = {int(number) for other, number, _ in theirs if int(other) == stream}
        assert len(rows) >= 60 or len(marked) == len(frames)


@recorded
def test_the_servers_log_says_the_same(folder, measured):
    capture = capture_in(folder)
    log, table = pd.read_csv(folder / "requests.csv").fillna({"nth": 1}), handshakes(capture)   # Caddy doesn't count
    ports = connections(capture)["client"].str.rsplit(":", n=1).str[-1].astype(int)
    unread = set(ports[table.index[table["unread"].notna()]])
    ours = exchanges(capture).assign(port=lambda rows: ports[rows["stream"]].to_numpy())
    expected = log[~log["client_port"].isin(unread) & log["request"].str.contains("HTTP/")].sort_values("time")
    # one port of the client may serve towards two ports of the server, one after the other
    ours["again"] = ours.groupby(["port", "nth"]).cumcount()
    expected = expected.assign(again=expected.groupby(["client_port", "nth"]).cumcount())
    ours = ours.set_index(["port", "nth", "again"])
    refused = signals(capture).query("signal == 'GOAWAY' and host == 'server'")["stream"]
    unanswered = ours[ours["status"].isna()]        # behind the last stream of a GOAWAY: the server never saw to them
    assert unanswered["stream"].isin(refused).all() and len(ours) - len(unanswered) == len(expected) >= 1
    for row in expected.itertuples():
        own = ours.loc[(row.client_port, row.nth, row.again)]
        version = {"2": "2.0"}.get(own["version"], own["version"])
        assert f"{own['method']} {own['target']} HTTP/{version}" == row.request and own["status"] == row.status
        assert any(pd.isna(size) for size in (own["response_bytes"], row.bytes_sent)) \
            or own["response_bytes"] == row.bytes_sent
    assert (ours["response_bytes"].notna() == ours["finished"].notna()).all()      # no frame of these was lost
    measured(f"log      {folder.name:24} {len(ours)} exchanges over TLS equal")


def test_what_is_not_read_is_named():
    told = handshakes(capture_in(SMALL))["unread"].dropna()
    assert told.tolist() == ["cipher TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA is not read", "no keys"]
    said = facts(Incident(capture_in(SMALL)))["TLS"]
    assert "8 connections, to www.example.test" in said and all(reason in said for reason in told) and "--keys" in said


def without_secrets(data):
    """The blocks of a pcapng file (little-endian) but those of type 10."""
    kept, at = b"", 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        kept += data[at:at + size] if kind != 10 else b""
        at += size
    return kept


def test_secrets_come_from_the_file_a_log_or_both(tmp_path):
    """Without its Decryption Secrets Block nothing is read; a key log puts the secrets back."""
    path, bare, log = SMALL / "capture.pcapng", tmp_path / "bare.pcapng", tmp_path / "keys.log"
    bare.write_bytes(without_secrets(path.read_bytes()))
    secrets = capture_in(SMALL).secrets
    log.write_text("".join(f"{label} {random.hex()} {secret.hex()}\n" for random, labels in secrets.items()
                           for label, secret in labels.items()))
    expected = exchanges(capture_in(SMALL))
    assert len(secrets) >= 6 and not read_capture(bare).secrets and exchanges(read_capture(bare)).empty
    pd.testing.assert_frame_equal(exchanges(read_capture(bare, keys=log)), expected)
    assert merge_captures([bare, path]).secrets == secrets == merge_captures([bare, bare], keys=log).secrets
    pieces = list(read_pieces(path, 10_000))
    assert len(pieces) > 3 and all(piece.secrets == secrets for piece in pieces)
    together = [table for tables in read_captures(path, piece=10_000, payload=True) for table in (tables.exchanges,)]
    together = pd.concat(together).sort_values(["requested", "stream", "nth"], ignore_index=True)
    pd.testing.assert_frame_equal(together, expected)


def test_the_report_takes_a_key_log_and_shows_none_of_it(tmp_path, capsys):
    secrets = capture_in(SMALL).secrets
    log = tmp_path / "keys.log"
    log.write_text("".join(f"{label} {random.hex()} {secret.hex()}\n" for random, labels in secrets.items()
                           for label, secret in labels.items()))
    assert main([str(SMALL / "capture.pcapng"), "--keys", str(log), "--out", str(tmp_path / "page.html")]) == 0
    said = capsys.readouterr().out + (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "www.example.test" in said and summary(Incident(capture_in(SMALL))) in said
    assert not any(secret.hex() in said for labels in secrets.values() for secret in labels.values())
    assert main([str(SMALL / "capture.pcapng"), "--keys", str(tmp_path / "none.log")]) == 2
    assert "none.log" in capsys.readouterr().err


def key_log(folder):
    """The secrets of a recording as a key log."""
    return "".join(f"{label} {random.hex()} {secret.hex()}\n" for random, labels in capture_in(folder).secrets.items()
                   for label, secret in labels.items())


def test_the_report_without_keys_names_the_servers_and_says_how_to_get_keys(tmp_path, capsys):
    """Without keys, with those of another recording, with its own ones, and with a file that is no key log."""
    https, other = (data_folder() / name for name in ("https-7-images-firefox", "h2-7-images-firefox"))
    bare, log, no_log = tmp_path / "bare.pcapng", tmp_path / "keys.log", tmp_path / "no.log"
    bare.write_bytes(without_secrets((https / "capture.pcapng").read_bytes()))

    def said(*words):
        status = main([str(bare), *map(str, words)])
        text = capsys.readouterr()
        return status, re.sub(r"\s+", " ", text.out or text.err)

    status, text = said()
    assert status == 0 and "www.example.test; not readable: no keys (5)" in text and "requests none that can be read" in text
    assert "SSLKEYLOGFILE" in text and "give that file with --keys" in text and "they open none" not in text
    log.write_text(key_log(other))
    assert "they open none of this capture" in said("--keys", log)[1]
    log.write_text(key_log(https))
    status, text = said("--keys", log)
    assert "www.example.test; all read" in text and "requests 9 on 3 connections" in text
    no_log.write_text("not a key\n")
    assert said("--keys", no_log) == (2, f"helpers.report: {no_log}: no line of it is one of a TLS key log; "
                                         "give SSLKEYLOGFILE's file ")


def test_the_report_on_quic_without_keys(tmp_path, capsys):
    bare = tmp_path / "bare.pcapng"
    bare.write_bytes(without_secrets((data_folder() / "h3-7-images-chromium" / "capture.pcapng").read_bytes()))
    assert main([str(bare)]) == 0
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "(www.example.test) connections 1" in text and "closed by cannot tell 1" in text and "--keys" in text


def test_the_report_of_https_without_keys(tmp_path):
    """The servers by name, at most 80 columns, "none that can be read" in place of "none"; nothing of it is private."""
    (tmp_path / "bare.pcapng").write_bytes(without_secrets((SMALL / "capture.pcapng").read_bytes()))
    incident = Incident(read_capture(tmp_path / "bare.pcapng"))
    lines = summary(incident).splitlines()
    assert "Server 127.0.0.1:443 (www.example.test)" in lines and "  requests          none that can be read" in lines
    first = next(number for number, line in enumerate(lines) if line.startswith("TLS "))
    told = lines[first:lines.index("", first)]
    assert max(map(len, told)) <= 80 and "with --keys" in " ".join(" ".join(told).split())
    assert "127.0.0.1:443 (www.example.test)" in page(incident) and "its keys are missing" in page(incident)
    assert "www.example.test" not in summary(Incident(incident.capture, private=True))


def test_the_keys_of_another_capture_are_named_as_such(tmp_path, capsys):
    bare, log = tmp_path / "bare.pcapng", tmp_path / "other.log"
    bare.write_bytes(without_secrets((SMALL / "capture.pcapng").read_bytes()))
    log.write_text("".join(f"CLIENT_RANDOM {number:064x} {number:096x}\n" for number in range(5)))
    assert main([str(bare), "--keys", str(log)]) == 0
    assert "given are those of 5 connections; they open none of this capture" in capsys.readouterr().out
    assert "keys" not in facts(Incident(read_capture(bare)))
    assert "keys" not in facts(Incident(read_capture(SMALL / "capture.pcapng", keys=log)))     # it has its own too
    unknown = only_stream(tmp_path, SMALL / "capture.pcapng", 5)
    told = facts(Incident(read_capture(unknown, keys=log)))
    assert "cipher" in told["TLS"] and "keys" not in told      # no keys would help


def only_stream(folder, path, stream):
    """A capture of one stream of the one at `path`, written by tshark, without secrets."""
    require("tshark")
    cut, bare = folder / "stream.pcapng", folder / "stream-bare.pcapng"
    subprocess.run(["tshark", "-r", path, "-Y", f"tcp.stream == {stream}", "-w", cut], check=True, capture_output=True)
    bare.write_bytes(without_secrets(cut.read_bytes()))
    return bare
