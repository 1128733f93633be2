"""Conversations over TLS that OpenSSL holds in memory, as captures: its own account of them is the witness."""

import ssl
from contextlib import suppress
from dataclasses import dataclass

import trustme
from fuzz import ACK, CLIENT, FIN, HANDSHAKE, PSH, frame, pcap

NAME, CLOSE_NOTIFY = "www.example.test", None
GET = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


@dataclass
class Talk:
    """`said`: (who, bytes) in order; `keys`: the key log; `client`: OpenSSL's view of the client's end."""

    said: list
    keys: bytes
    client: ssl.SSLObject

    def frames(self, piece=1400, begin=True, port=CLIENT[1]):
        """The frames of a connection that carries it, `piece` bytes a segment."""
        client, sent, frames = (CLIENT[0], port), {"C": 1, "S": 1}, list(HANDSHAKE) if begin else []
        for who, data in self.said:
            for at in range(0, len(data), piece):
                part = data[at:at + piece]
                frames.append(frame(who, PSH | ACK, sent[who], sent["S" if who == "C" else "C"], part, client))
                sent[who] += len(part)
        return [*frames, frame("C", FIN | ACK, sent["C"], sent["S"], client=client)]

    def write(self, folder, frames=None, **how):
        """A capture file of `frames`, by default all, and its key log beside it."""
        path, keys = folder / "talk.pcap", folder / "keys.log"
        path.write_bytes(pcap(self.frames(**how) if frames is None else frames))
        keys.write_bytes(self.keys)
        return path, keys


def talk(folder, turns, version="TLSv1_3", ciphers=None, alpn=("http/1.1",), session=None, contexts=None):
    """The `Talk` of a client and a server that say `turns`, (who, bytes); what comes in a row is a record each.

    `CLOSE_NOTIFY` stands for that alert in place of bytes.
    """
    mine, theirs = contexts or contexts_of(folder, version, ciphers, alpn)
    ways = [ssl.MemoryBIO(), ssl.MemoryBIO()]
    client = mine.wrap_bio(*ways, server_hostname=NAME, session=session)
    server = theirs.wrap_bio(*ways[::-1], server_side=True)
    said, log = [], folder / "openssl.log"
    before = len(log.read_bytes()) if log.exists() else 0

    def step(who, act):
        end, out = (client, ways[1]) if who == "C" else (server, ways[0])
        before = out.pending
        with suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            act(end)
        data = out.read()       # what the other end has not read yet stays to be read
        out.write(data)
        if data[before:]:
            said.append((who, data[before:]))

    def read_all(end):
        while end.read(1 << 20):
            pass

    for _ in range(3):
        step("C", lambda end: end.do_handshake())
        step("S", lambda end: end.do_handshake())
    for who, data in turns:
        step(who, lambda end, data=data: end.unwrap() if data is CLOSE_NOTIFY else end.write(data))
        step("S" if who == "C" else "C", read_all)
    step("C", lambda end: end.unwrap())
    return Talk(said, log.read_bytes()[before:], client)


def contexts_of(folder, version, ciphers=None, alpn=("http/1.1",)):
    """The client's and the server's context."""
    authority = trustme.CA()
    mine, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(mine)
    authority.issue_cert(NAME).configure_cert(theirs)
    for context in (mine, theirs):
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
        if ciphers:
            context.set_ciphers(ciphers)
        context.set_alpn_protocols(list(alpn))
    mine.keylog_filename = str(folder / "openssl.log")
    return mine, theirs


def pages(*sizes):
    """Turns that ask for bodies of these sizes, one after the other."""
    return [turn for number, size in enumerate(sizes)
            for turn in (("C", GET % number), ("S", ANSWER % size + b"x" * size))]
