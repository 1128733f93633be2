"""A connection is closed: by whom, when, and what the other end answers, as the segments of one end's capture."""

from math import ceil, inf

from helpers.model.loading import HEAD, Connection
from helpers.model.rules import Client, Server, Wire

LARGEST = 60_000    # bytes of payload in one segment, as with segmentation offload
GOODBYE = b"\x17\x03\x03\x00\x13" + bytes(19)    # a TLS record, as long as that of an alert


def segments_of(one: Connection, client: Client, server: Server, wire: Wire, wakes: tuple[float, ...]) -> list[tuple]:
    """All segments of a connection, as captured at the client: (time, "C" or "S", flags, payload)."""
    trip = wire.round_trip
    told = [(one.opened, "C", "S", b""), (one.opened + trip, "S", "SA", b""), (one.opened + trip, "C", "A", b"")]
    if client.handshake:
        told += _handshake(one.opened + trip, trip)
    for request in one.requests:
        told += _exchange(request, client)
    if one.dropped is not None:
        return [*told, (one.dropped, "C", "RA", b"")]
    return told + _end(one, client, server, trip, wakes)


def _handshake(begin, trip):
    record = b"\x17\x03\x03"
    return [(begin, "C", "PA", record + b"\x02\x00" + bytes(512)),
            (begin + trip, "S", "PA", record + b"\x04\x00" + bytes(1024)),
            (begin + trip, "C", "PA", record + b"\x00\x45" + bytes(69))]


def _exchange(request, client):
    """The segments of a request, of its answer in pieces, and the client's ACK."""
    plain = not client.handshake
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {request.size}\r\n\r\n".encode()
    head = head[:-4] + b"\r\nX: " + b"x" * (HEAD - len(head) - 5) + b"\r\n\r\n"
    asked = f"GET {request.target} HTTP/1.1\r\nHost: model\r\n\r\n".encode() if plain else bytes(60)
    answer = head + bytes(request.size) if plain else bytes(HEAD + request.size)
    pieces = [answer[:HEAD], *(answer[at:at + LARGEST] for at in range(HEAD, len(answer), LARGEST))]
    step = (request.finished - request.answered) / max(1, len(pieces) - 1)
    told = [(request.answered + number * step, "S", "PA", piece) for number, piece in enumerate(pieces)]
    return [(request.requested, "C", "PA", asked), *told, (request.finished, "C", "A", b"")]


def _end(one, client, server, trip, wakes):
    """The segments of the end, or none where it lies beyond what is played."""
    if one.ended is not None:
        first = "C" if not client.idle else "S"
        return _close(first, one.ended, one.ended, client, server, trip)
    used = bool(one.requests)
    limits = (client.idle, server.keepalive_timeout) if used else (client.unused, server.header_timeout)
    since = one.last if used else one.opened + trip
    theirs, ours = since + limits[1], _next_look(since + limits[0], client, wakes)
    probes = _probes(one.last, min(theirs, ours), client, trip)
    if ours < theirs:
        return probes + _close("C", ours, ours, client, server, trip)
    answer = _next_look(theirs, client, wakes)
    found_out = theirs + client.probes_after * ceil(server.fin_timeout / client.probes_after) \
        if client.probes_after < inf else inf
    if answer > found_out or answer == inf:
        return probes + _close("S", theirs, inf, client, server, trip) + _unanswered(theirs, found_out, client, trip)
    return probes + _close("S", theirs, answer, client, server, trip)


def _next_look(moment, client, wakes):
    """When the client sees what happened at `moment`: at once, or at its next request."""
    return moment if client.watches else min((wake for wake in wakes if wake >= moment), default=inf)


def _probes(since, until, client, trip):
    """Keep-alive probes while the connection is idle, each with its answer."""
    if client.probes_after == inf or until == inf:
        return []
    times = [since + number * client.probes_after for number in range(1, ceil((until - since) / client.probes_after))]
    return [segment for time in times for segment in ((time, "C", "probe", b""), (time + trip, "S", "A", b""))]


def _unanswered(fin, found_out, client, trip):
    """The client leaves a FIN unanswered; its probes find out when the server has forgotten."""
    if found_out == inf:
        return []
    times, time = [], fin + client.probes_after
    while time < found_out:
        times.append(time)
        time += client.probes_after
    answered = [segment for time in times for segment in ((time, "C", "probe", b""), (time + trip, "S", "A", b""))]
    return [*answered, (found_out, "C", "probe", b""), (found_out + trip, "S", "R", b"")]


def _close(first, at, answer, client, server, trip):
    """The end that closes `first` at time `at` (as captured), the other's answer at time `answer`."""
    goodbye = [(answer, "C", "PA", GOODBYE)] if client.says_goodbye else []
    if first == "C":
        return [*goodbye, (at, "C", "FA", b""), (at + trip, "S", "FA", b""), (at + trip, "C", "A", b"")]
    told = [(at, "S", "FA", b""), (at, "C", "A", b"")]
    if answer == inf:
        return told
    if goodbye or answer - at > server.fin_timeout:     # nobody reads it any more
        return [*told, *goodbye, (answer, "C", "FA", b""), (answer + trip, "S", "R", b"")]
    return [*told, (answer, "C", "FA", b""), (answer + trip, "S", "A", b"")]
