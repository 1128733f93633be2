"""HTTP/1.x of connections whose ends take turns: all their messages at once, in columns.

Most connections are simple. The client asks, with a request in each of its segments; the server answers; and each
request acknowledges all that came before, and so says where its answer begins. What is not as simple as that is left to
`helpers.exchanges`, which reads any connection, message after message, and gives the same.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from helpers.captures import Capture
from helpers.flow.batches import Flow
from helpers.flow.reassembly import Payload, all_of, any_of, payload
from helpers.protocols import http1
from helpers.protocols.http1 import EMPTY_LINE, LONGEST_KNOWN, REQUEST, RESPONSE, Grammar

WIDE = 1 << 40                          # more sequence numbers than any connection takes
OF_THEIR_OWN = (b"HEAD", b"CONNECT")    # methods that decide how the answer ends
BY_LENGTH = ("content-length", "none")
UNKNOWN = None, None, 0


class Heads(NamedTuple):
    """What segments begin with: `which` of the heads that there are, each of them once; `sizes` of the messages.

    `lines`, `framings`: of the heads, the first line (None: no head) and how the message ends. The size is 0 where the
    frame was cut in its head.
    """

    which: np.ndarray
    lines: Sequence
    framings: Sequence
    sizes: np.ndarray

    def at(self, kept: np.ndarray) -> "Heads":
        """Those that the mask `kept` chooses."""
        return self._replace(which=self.which[kept], sizes=self.sizes[kept])

    def of_line(self, told: Callable, kind: type) -> np.ndarray:
        """What `told` says of the first line of each, which it is asked once for each head that there is."""
        return np.array([told(line) for line in self.lines], kind)[self.which]

    def framed(self, framings: Sequence) -> np.ndarray:
        """Which of them end in one of these ways."""
        return np.array([framing in framings for framing in self.framings])[self.which]


def in_turns(capture: Capture, flow: Flow) -> tuple[np.ndarray, dict]:
    """The connections of `flow` that are simple, as a mask; and their exchanges, as columns of `helpers.exchanges`.

    A number that isn't known is NaN; there are no columns where no connection is simple.
    """
    sent = payload(capture, flow)
    simple = _one_asks(capture, sent, flow.directions // 2)
    asks, says = (np.flatnonzero(simple[sent.direction >> 1] & (sent.direction & 1 == side)) for side in (0, 1))
    if not len(asks):
        return simple, {}
    connection, where = sent.direction[asks] >> 1, sent.direction[says] * WIDE + sent.seq[says]
    begins, more = sent.ack[asks], np.r_[connection[1:] == connection[:-1], False]
    wanted = (2 * connection + 1) * WIDE + begins
    last = np.searchsorted(where, wanted - begins + WIDE) - 1       # place of the last segment of that server
    silent = ~more & (begins == sent.end[says[last]])               # the last request has no answer
    place = np.where(silent, last + 1, np.searchsorted(where, wanted))
    answer = says[np.minimum(place, len(says) - 1)]
    requests = _heads(capture, sent, asks, REQUEST)
    answers = _heads(capture, sent, np.where(silent, -1, answer), RESPONSE)
    right = silent | (sent.direction[answer] * WIDE + sent.seq[answer] == wanted) & (sent.ack[answer] >= sent.end[asks])
    right &= _no_body(requests, (sent.end - sent.seq)[asks])
    right &= silent | _final(answers) & _follow(more, begins, answers.sizes, place, sent.end[says[last]])
    right &= np.r_[False, more[:-1]] | (begins == 1)
    simple[connection[~right]] = False
    kept = simple[connection]
    ended = sent.time[says[np.searchsorted(where, wanted + answers.sizes) - 1]]
    return simple, {} if not kept.any() else _columns(
        flow.first + connection[kept], requests.at(kept), answers.at(kept),
        *(times[kept] for times in (sent.time[asks], sent.time[answer], ended)))


def _one_asks(capture: Capture, sent: Payload, connections: int) -> np.ndarray:
    """In which connections the client may have sent nothing but requests, and the server none; both in order."""
    starts = sent.starts
    may = http1.may_begin_request(capture.data, sent.at, sent.size)
    server = sent.direction[starts] & 1 == 1
    fits = sent.in_order & sent.began[starts] & np.where(server, ~any_of(may, starts), all_of(may, starts))
    return np.bincount(sent.direction[starts][fits] >> 1, minlength=connections) == 2


def _heads(capture: Capture, sent: Payload, rows: np.ndarray, grammar: Grammar) -> Heads:
    """What the segments `rows` begin with; -1 is none."""
    data, at, size = capture.data.data, sent.at[rows], sent.size[rows]
    cut = (size < (sent.end - sent.seq)[rows]) & (size < LONGEST_KNOWN)
    ends = at + np.where(rows < 0, 0, np.minimum(size, LONGEST_KNOWN))
    texts, found = (data[begin:end].tobytes() for begin, end in zip(at.tolist(), ends.tolist())), {}
    which = np.array([found.setdefault(key, len(found)) for key in zip(texts, cut.tolist())])     # many are the same
    lines, framings, sizes = zip(*(_head(*key, grammar) for key in found))
    return Heads(which, lines, framings, np.array(sizes)[which])


def _head(text: bytes, cut: bool, grammar: Grammar) -> tuple:
    """The first line of the message that begins with `text`, its framing and its size."""
    if cut and (line := grammar.cut_head(text)):
        return line, None, 0
    size = text.find(EMPTY_LINE) + len(EMPTY_LINE)
    head = grammar.whole_head(text[:size]) if size >= len(EMPTY_LINE) else None
    return (head[0], head[1], size + head[2]) if head else UNKNOWN


def _no_body(requests: Heads, lengths: np.ndarray) -> np.ndarray:
    """Which requests are a head and nothing else, whole in their segment of so many bytes, or cut with its frame."""
    plain = requests.of_line(lambda line: line is not None and line[0] not in OF_THEIR_OWN, bool)
    return plain & ((requests.sizes == 0) | requests.framed(("none",)) & (requests.sizes == lengths))


def _final(answers: Heads) -> np.ndarray:
    """Which answers are final ones that say how long they are, or were cut with their frame."""
    final = answers.of_line(lambda line: line is not None and line[0] >= 200, bool)
    return final & ((answers.sizes == 0) | answers.framed(BY_LENGTH))


def _follow(more: np.ndarray, begins: np.ndarray, sizes: np.ndarray, place: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Which answers end where the next one begins, or before the last number that was sent, `end`.

    Of one whose end isn't known, as its frame was cut, the next segment must be the next answer. `more`: whether there
    is a next one.
    """
    whole = np.where(more, begins + sizes == np.r_[begins[1:], 0], begins + sizes <= end)
    return np.where(sizes > 0, whole, ~more | (place + 1 == np.r_[place[1:], 0]))


def _columns(stream: np.ndarray, requests: Heads, answers: Heads, asked: np.ndarray, answered: np.ndarray,
             ended: np.ndarray) -> dict:
    """The exchanges, as columns of `helpers.exchanges`; `asked`, `answered`, `ended`: times."""
    status = answers.of_line(lambda line: line[0] if line else np.nan, float)
    whole, line = answers.sizes > 0, [line and http1.shown(line) for line in requests.lines]
    return {"stream": stream, "nth": _numbers(stream, requests.sizes == 0),
            **{name: np.array([parts and parts[place] for parts in line], object)[requests.which]
               for place, name in enumerate(("method", "target", "version"))},
            "status": status, "framing": np.array(answers.framings, object)[answers.which], "requested": asked,
            "answered": np.where(np.isnan(status), np.nan, answered), "finished": np.where(whole, ended, np.nan),
            "response_bytes": np.where(whole, answers.sizes, np.nan)}


def _numbers(stream: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """The number of each request in its connection; NaN behind one whose end isn't known, as its frame was cut."""
    place, before = np.arange(len(stream)), np.cumsum(cut) - cut
    begin = np.maximum.accumulate(np.where(np.diff(stream, prepend=-1) > 0, place, 0))
    return np.where(before > before[begin], np.nan, place - begin + 1)
