"""QUIC's packets and frames against the vectors of RFC 9001 (appendix A) and RFC 9369 (appendix A)."""

import pytest

from helpers.protocols.quic import (
    INITIAL,
    ONE_RTT,
    RETRY,
    Close,
    Crypto,
    NewId,
    OneSide,
    Protection,
    Received,
    Reset,
    Stream,
    frames,
    packets,
    retry_is_sound,
)
from helpers.protocols.quic.keys import AES_128, CHACHA20, expand_label, whole_number
from helpers.protocols.quic.numbers import varint

DCID = bytes.fromhex("8394c8f03e515708")
SECRETS = {     # client's and server's: RFC 9001 A.1, RFC 9369 A.1
    1: ("c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea", "1f369613dd76d5467730efcbe3b1a22d", "fa044b2f42a3fd3b46fb255c", "9f50449e04a0e810283a1e9933adedd2", "quic "),
    0x6B3343CF: ("14ec9d6eb9fd7af83bf5a668bc17a7e283766aade7ecd0891f70f9ff7f4bf47b", "8b1a0bc121284290a29e0971b5cd045d", "91f73e2351d8fa91660e909f", "45b95e15235d6f45a6b19cbcb0294ba9", "quicv2 ")}
RETRIES = {     # RFC 9001 A.4, RFC 9369 A.4
    1: "ff000000010008f067a5502a4262b5746f6b656e04a265ba2eff4d829058fb3f0f2496ba",
    2: "cf6b3343cf0008f067a5502a4262b5746f6b656ec8646ce8bfe33952d955543665dcc7b6"}
CHACHA_SECRET = bytes.fromhex("9ac312a7f877468ebe69422748ad00a15443f18203a07d6060f688f30f21632b")
CHACHA_PACKET = bytes.fromhex("4cfe4189655e5cd55c41f69080575d7999c25a5bfb")
CHACHA_PACKET_2 = bytes.fromhex("5558b1c60ae7b6b932bc27d786f4bc2bb20f2162ba")


@pytest.mark.parametrize("version", SECRETS)
def test_keys_of_the_rfc(version):
    secret, key, iv, hp, prefix = SECRETS[version]
    made = [expand_label(bytes.fromhex(secret), prefix + label, size).hex() for label, size in (("key", 16), ("iv", 12), ("hp", 16))]
    assert made == [key, iv, hp]


@pytest.mark.parametrize("text", RETRIES.values())
def test_retry_of_the_rfc(text):
    data = bytes.fromhex(text)
    packet, = packets(data)
    assert packet.kind == RETRY and packet.scid == bytes.fromhex("f067a5502a4262b5") and packet.token == b"token"
    assert retry_is_sound(data, packet, DCID) and not retry_is_sound(data, packet, DCID[1:])


@pytest.mark.parametrize("version, data", [(1, CHACHA_PACKET), (0x6B3343CF, CHACHA_PACKET_2)])
def test_chacha20_of_the_rfc(version, data):
    """The packet has number 654360564, its last three bytes on the wire, and holds a PING."""
    packet, = packets(data)
    side = OneSide([Protection(CHACHA_SECRET, AES_128, version), Protection(CHACHA_SECRET, CHACHA20, version)])
    side._largest = 654360563
    assert packet.kind == ONE_RTT and side.open(data, packet) == b"\1"
    assert OneSide([Protection(CHACHA_SECRET, AES_128, version)]).open(data, packet) is None


def test_numbers_of_the_rfc():
    assert [varint(bytes.fromhex(text), 0)[0] for text in ("c2197c5eff14e88c", "9d7f3e7d", "7bbd", "25", "4025")] == [
        151288809941952652, 494878333, 15293, 37, 37]
    assert whole_number(0x9B32, 2, 0xA82F30EA) == 0xA82F9B32


def test_frames():
    payload = bytes.fromhex("06050361 6263".replace(" ", "")) + b"\0\0\0" + bytes.fromhex("0b04026869") + bytes.fromhex(
        "0201000003") + bytes.fromhex("18010004aabbccdd") + bytes(range(16)) + bytes.fromhex("040441030a") + bytes.fromhex("1d410000") + b"\x1e\x01"
    assert list(frames(payload[:8])) == [Crypto(5, b"abc")]
    assert list(frames(bytes.fromhex("0b04026869"))) == [Stream(4, 0, b"hi", True)]
    assert list(frames(bytes.fromhex("18010004aabbccdd") + bytes(16))) == [NewId(bytes.fromhex("aabbccdd"), bytes(16))]
    assert list(frames(bytes.fromhex("0404410300"))) == [Reset(4, 0x103)]
    assert list(frames(bytes.fromhex("1d410000"))) == [Close(0x100, True, b"")]
    assert list(frames(b"\x02\x05\x00\x00\x03\x1e\x01")) == []


@pytest.mark.parametrize("text", ["06", "0604", "060005", "1801", "1c01", "21", "02ff", "0b04ff"])
def test_frames_cut_short(text):
    with pytest.raises(ValueError):
        list(frames(bytes.fromhex(text)))


def test_received_in_any_order():
    said = Received()
    assert not said.put(3, b"lo", 1.0, True) and said.put(0, b"he", 2.0) and not said.put(0, b"h", 3.0)
    assert said.data == b"he" and said.finished is None and said.time(2) is None
    assert said.put(1, b"el", 4.0) and said.data == b"hello" and said.finished == 4.0
    assert [said.time(offset) for offset in range(6)] == [2.0, 2.0, 4.0, 4.0, 4.0, None]


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xc0\0\0\0\1", b"\xc0\0\0\0\1\xff", b"\xc0\0\0\0\1\0\0\0\x10" + bytes(20), b"\x20" + bytes(40)])
def test_what_is_no_packet(data):
    assert list(packets(data)) == [] and INITIAL
