"""TLS against RFC 8448's connection and against what OpenSSL says of its own."""

import pandas as pd
import pytest
from fuzz import pcap
from tls_talks import ANSWER, GET, NAME, contexts_of, pages, talk

from helpers.captures import CaptureError, merge_captures, read_capture, read_key_log
from helpers.connections import connections, handshakes
from helpers.exchanges import exchanges, signals
from helpers.protocols import tls
from helpers.protocols.tls_keys import CIPHERS, Keys13, expand_label

# RFC 8448 section 3
SERVER_HANDSHAKE = bytes.fromhex("b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38")
CLIENT_HANDSHAKE = bytes.fromhex("b3eddb126e067f35a780b3abf45e2d8f3b1a950738f52e9600746a0e27a55a21")
CLIENT_TRAFFIC = bytes.fromhex("9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5")
DATA = bytes.fromhex(
    "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e2b62974e1f5a6292a2"
    "977014bd1e3deae63aeebb21694915e4")
CLOSE = bytes.fromhex("1703030013c9872760655666b74d7ff1153efd6db6d0b0e3")
READ = ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"]


@pytest.mark.parametrize("secret, key, iv", [
    (SERVER_HANDSHAKE, "3fce516009c21727d0f2e4e86ee403bc", "5d313eb2671276ee13000b30"),
    (CLIENT_HANDSHAKE, "dbfaa693d1762c5b666af5d950258d01", "5bd3c71b836e0b76bb73265f"),
    (CLIENT_TRAFFIC, "17422dda596ed5d9acd890e3c63f5051", "5b78923dee08579033e523d9")])
def test_keys_of_rfc_8448(secret, key, iv):
    assert expand_label(secret, "key", 16).hex() == key
    assert expand_label(secret, "iv", 12).hex() == iv


def test_records_of_rfc_8448():
    keys = Keys13(CIPHERS[0x1301], CLIENT_TRAFFIC)
    assert keys.open(0, DATA[:5], DATA[5:]) == (tls.APPLICATION_DATA, bytes(range(50)))
    assert keys.open(1, CLOSE[:5], CLOSE[5:]) == (tls.ALERT, b"\1\0")
    assert keys.open(1, DATA[:5], DATA[5:]) is None and keys.next().open(0, DATA[:5], DATA[5:]) is None


@pytest.mark.parametrize("version, ciphers", [("TLSv1_3", None), *(("TLSv1_2", cipher) for cipher in READ)])
@pytest.mark.parametrize("piece", [1400, 90])
def test_what_openssl_said_is_read(tmp_path, version, ciphers, piece):
    spoken = talk(tmp_path, pages(10, 40_000, 0), version, ciphers)
    path, keys = spoken.write(tmp_path, piece=piece)
    table = exchanges(read_capture(path, keys=keys))
    assert table["target"].tolist() == ["/0", "/1", "/2"] and table["nth"].tolist() == [1, 2, 3]
    assert table["response_bytes"].tolist() == [len(ANSWER % size) + size for size in (10, 40_000, 0)]
    assert table["finished"].notna().all()
    name, number = spoken.client.cipher()[0], {"TLSv1.2": "1.2", "TLSv1.3": "1.3"}[spoken.client.version()]
    row = handshakes(read_capture(path, keys=keys)).loc[0]
    assert row["version"] == number and row["chosen"] == spoken.client.selected_alpn_protocol()
    assert row["cipher"].replace("TLS_", "").replace("_", "").startswith(name.replace("TLS_", "").replace("-", "").replace("_", "")[:5])
    assert row["round_trips"] == {"1.2": 2, "1.3": 1}[number] and not row["resumed"]
    said = signals(read_capture(path, keys=keys))
    assert said[["host", "signal"]].to_numpy().tolist() == [["client", "close_notify"]]


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_without_keys_nothing_is_guessed(tmp_path, version):
    path, _ = talk(tmp_path, pages(10, 2000), version).write(tmp_path, piece=70)
    capture = read_capture(path)
    assert len(exchanges(capture)) == 0 and len(signals(capture)) == 0
    row, told = connections(capture).loc[0], handshakes(capture).loc[0]
    assert row["server_name"] == NAME and row["protocol"] == {"TLSv1_2": "http/1.1", "TLSv1_3": "tls"}[version]
    assert told["unread"] == "no keys" and told["offered"] == "http/1.1"
    assert pd.isna(told["chosen"]) == (version == "TLSv1_3")


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_session_that_goes_on_says_so(tmp_path, version):
    contexts = contexts_of(tmp_path, version)
    first = talk(tmp_path, pages(10), contexts=contexts)
    second = talk(tmp_path, pages(10), contexts=contexts, session=first.client.session)
    path, _ = second.write(tmp_path)
    assert second.client.session_reused and handshakes(read_capture(path))["resumed"].tolist() == [True]
    assert handshakes(read_capture(path))["round_trips"].tolist() == [1]


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_behind_a_lost_segment_reading_goes_on(tmp_path, version):
    spoken = talk(tmp_path, pages(10, 60_000, 20, 30), version)
    frames = spoken.frames()
    large = [place for place in range(len(frames)) if len(frames[place]) > 1400][20]
    path, keys = spoken.write(tmp_path, frames[:large] + frames[large + 1:])
    table = exchanges(read_capture(path, keys=keys))
    assert table["target"].tolist() == ["/0", "/1", "/2", "/3"] and table["status"].tolist() == [200] * 4
    assert table["finished"].isna().tolist() == [False, True, False, False]
    assert table["response_bytes"][[0, 2, 3]].tolist() == [len(ANSWER % size) + size for size in (10, 20, 30)]


@pytest.mark.parametrize("missing", range(8))
def test_a_lost_turn_shifts_no_answer(tmp_path, missing):
    """Each frame with a request or an answer in turn is left out: what is told of the others stays true."""
    spoken = talk(tmp_path, pages(1, 2, 3, 4))
    frames = spoken.frames()
    place = len(frames) - 2 - missing      # the last is a FIN, the one before it a close_notify
    path, keys = spoken.write(tmp_path, frames[:place] + frames[place + 1:])
    for row in exchanges(read_capture(path, keys=keys)).itertuples():
        size = int(row.target[1:]) + 1
        assert pd.isna(row.response_bytes) or row.response_bytes == len(ANSWER % size) + size


def test_a_capture_that_begins_in_the_middle_is_tls_and_no_more(tmp_path):
    spoken = talk(tmp_path, pages(10, 20))
    path, keys = spoken.write(tmp_path, spoken.frames()[7:])
    capture = read_capture(path, keys=keys)
    assert connections(capture)["protocol"].tolist() == ["tls"] and len(exchanges(capture)) == 0
    assert handshakes(capture)["unread"].tolist() == ["the handshake was not captured"]


def test_a_cipher_that_is_not_read_is_named(tmp_path):
    path, keys = talk(tmp_path, pages(10), "TLSv1_2", "ECDHE-ECDSA-AES256-SHA384").write(tmp_path)
    capture = read_capture(path, keys=keys)
    assert len(exchanges(capture)) == 0
    assert handshakes(capture)["unread"].tolist() == [
        "cipher TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384 is not read"]


@pytest.mark.parametrize("left_out", ["HANDSHAKE", "SERVER_", "CLIENT_", "TRAFFIC_SECRET_0", "_"])
def test_a_part_of_the_keys_opens_a_part(tmp_path, left_out):
    spoken = talk(tmp_path, pages(10, 20))
    path, keys = spoken.write(tmp_path)
    keys.write_text("".join(line + "\n" for line in spoken.keys.decode().splitlines() if left_out not in line.split(" ")[0]))
    capture = read_capture(path, keys=keys)
    table = exchanges(capture)
    assert table["nth"].tolist() == ([1, 2] if left_out in ("HANDSHAKE", "SERVER_") else [])
    assert table["status"].isna().tolist() == [left_out == "SERVER_"] * len(table)
    assert handshakes(capture)["unread"].notna().tolist() == [left_out == "_"]


def test_keys_that_do_not_fit_say_so(tmp_path):
    spoken = talk(tmp_path, pages(10))
    path, keys = spoken.write(tmp_path)
    keys.write_text("".join(f"{label} {random} {secret[::-1]}\n" for label, random, secret in map(
        str.split, spoken.keys.decode().splitlines())))
    assert handshakes(read_capture(path, keys=keys))["unread"].tolist() == ["the keys don't fit"]


def test_secrets_show_nowhere(tmp_path):
    spoken = talk(tmp_path, pages(10))
    path, keys = spoken.write(tmp_path)
    capture = read_capture(path, keys=keys)
    secrets = [secret for labels in capture.secrets.values() for secret in labels.values()]
    texts = [repr(capture), str(capture), repr(capture.secrets), repr(list(capture.secrets.values())), f"{capture.secrets}"]
    texts += [table(capture).to_string() for table in (exchanges, connections, handshakes, signals)]
    broken = tmp_path / "broken.log"
    broken.write_bytes(spoken.keys.replace(b" ", b"\t-"))
    with pytest.raises(CaptureError) as refused:
        read_capture(path, keys=broken)
    texts.append(str(refused.value))
    assert len(secrets) >= 4
    assert not any(secret.hex() in text or repr(secret) in text for secret in secrets for text in texts)


def test_key_logs(tmp_path):
    spoken = talk(tmp_path, pages(10))
    path, keys = spoken.write(tmp_path)
    noisy = b"# made by hand\r\n\nnonsense\nCLIENT_RANDOM 00 11\n" + spoken.keys.replace(b"\n", b"\r\n") + b"RSA x y"
    assert read_key_log(noisy) == read_key_log(spoken.keys) and len(read_key_log(spoken.keys)) == 1
    with pytest.raises(CaptureError, match=r"nothing\.log: byte 0: No such file"):
        read_capture(path, keys=tmp_path / "nothing.log")
    with pytest.raises(CaptureError, match=r"talk\.pcap: byte 0: no line of it is one of a TLS key log"):
        read_capture(path, keys=path)
    assert len(exchanges(merge_captures([path, path], keys=keys))) >= 1


def test_a_server_that_asks_again_is_no_second_connection(tmp_path):
    """HelloRetryRequest: the client's first key share is of a group that the server does not take."""
    mine, theirs = contexts_of(tmp_path, "TLSv1_3")
    theirs.set_ecdh_curve("secp521r1")
    spoken = talk(tmp_path, pages(10), contexts=(mine, theirs))
    path, keys = spoken.write(tmp_path)
    table = handshakes(read_capture(path, keys=keys))
    assert table["round_trips"].tolist() == [2] and table["server_name"].tolist() == [NAME]
    assert exchanges(read_capture(path, keys=keys))["status"].tolist() == [200]


def test_hellos_cut_short_are_none():
    spoken = bytes.fromhex("0303") + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0"
    assert tls.read_client_hello(spoken).ciphers == (0x1301,)
    for size in range(len(spoken)):
        with pytest.raises(ValueError, match="cut short"):
            tls.read_client_hello(spoken[:size])


def test_http_in_the_clear_stays_what_it_was(tmp_path):
    path = tmp_path / "plain.pcap"
    from fuzz import HANDSHAKE, spoken
    get, answer = GET % 1, ANSWER % 2 + b"xx"
    path.write_bytes(pcap([*HANDSHAKE, *spoken("C", get), *spoken("S", answer, ack=1 + len(get))]))
    capture = read_capture(path)
    assert connections(capture)["protocol"].tolist() == ["http/1.1"] and len(handshakes(capture)) == 0
    assert exchanges(capture)["status"].tolist() == [200]
