"""The clinic's decision tree: from what is seen, over what to look at in a capture, to the finding's name."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from helpers.figures.style import COLOURS, axes_for, in_style

# What is seen; then, for each finding, what the capture shows. The names are those of `helpers.diagnosis`
TREE = (
    ("“Connection refused”", (
        ("a RST answers the SYN", "refused"),)),
    ("“Cannot assign\nrequested address”", (
        ("ports taken again right after TIME_WAIT", "ports-running-out"),
        ("most ports of the range taken at once", "port-range-nearly-taken"))),
    ("“timed out”", (
        ("SYNs repeated, no answer", "syn-unanswered"),
        ("client's FIN before the first byte of the answer", "client-gave-up"),
        ("the same data repeated, never acknowledged", "path-silent"),
        ("… and several requests of HTTP/2 among them", "one-dead-connection"),
        ("keep-alive probes without an answer", "probes-unanswered"),
        ("a FIN repeated, never acknowledged", "fin-unanswered"))),
    ("“reset by peer”, 502,\nno answer", (
        ("a RST whose TTL is not that of its end", "reset-by-a-box"),
        ("the request met the server's FIN", "keep-alive-race"),
        ("requests behind the last stream of GOAWAY", "goaway-race"),
        ("client's RST in the middle of an answer", "reset-with-unread-data"),
        ("RST after a whole answer", "reset-instead-of-close"),
        ("TLS: a RST answers the client's close_notify", "tls-closed-before-close-notify"))),
    ("a short answer, no error", (
        ("TLS: FIN without close_notify, no length told", "tls-answer-cut"),)),
    ("slow", (
        ("the first byte of the answer comes late", "slow-server"),
        ("an end's window stays zero", "slow-reader"))),
    ("“Too many open files”", (
        ("an end stays in CLOSE_WAIT", "close-wait"),)),
    ("many connections,\nmany TIME_WAITs", (
        ("one request on each", "no-reuse"),
        ("idle ones closed while others are opened", "pool-too-small"))))
SEEN, LOOK, FINDING = 0.0, 3.75, 7.9     # where the three columns begin
WIDTH, HEIGHT = 11.0, 0.29              # of all, and of a row, in inches


@in_style
def decision_tree(ax: Axes | None = None, branches: Sequence = TREE) -> Axes:
    """Draw what is seen on the left, each joined to what to look at, and on the right the finding's name.

    `branches`: (what is seen, ((what the capture shows, finding), …)) of each, from the top.
    """
    rows = sum(len(leaves) for _, leaves in branches)
    ax, y = axes_for(ax, HEIGHT * (rows + 2)), 0
    for x, head in ((SEEN, "you see"), (LOOK, "the capture shows"), (FINDING, "finding")):
        ax.text(x, -1.1, head, color=COLOURS["quiet"], va="center")
    for seen, leaves in branches:
        middle = y + (len(leaves) - 1) / 2
        ax.text(SEEN, middle, seen, weight="bold", va="center", size=10)
        for place, (look, finding) in enumerate(leaves, y):
            _join(ax, middle, place)
            ax.text(LOOK, place, look, va="center", size=10)
            ax.text(FINDING, place, finding, va="center", family="DejaVu Sans Mono", size=9,
                    color=COLOURS["unused"])
        y += len(leaves)
        ax.add_line(Line2D((SEEN, WIDTH), (y - 0.5,) * 2, color=COLOURS["article"], lw=0.8))
    ax.set(xlim=(SEEN, WIDTH), ylim=(y - 0.4, -1.7))
    ax.axis("off")
    return ax


def _join(ax, middle, place):
    """The bracket from what is seen to one of its leaves."""
    ax.add_line(Line2D((LOOK - 0.35, LOOK - 0.22, LOOK - 0.22, LOOK - 0.08), (middle, middle, place, place),
                       color=COLOURS["idle"], lw=1))
