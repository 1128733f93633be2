"""What the programs of the clinic share: where the server is, and how often a client had which answer or error."""

from collections import Counter

from helpers.testbed.hosts import network
from helpers.testbed.running import recording

PORT, HOST = 80, network.ADDRESSES["server"]
PROXY_PORT = 8080       # on the client's host, where a proxy stands there
AUTHORITY = recording.WORKSHOP / "certificates" / "authority.pem"
SAID: Counter = Counter()


def said(what: object, times: int = 1) -> None:
    """Count an answer or an error, so many `times`."""
    if times:
        SAID[str(what)] += times
