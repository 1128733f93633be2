"""What the programs of the clinic share: where the server is, and how often a client had which answer or error."""

from collections import Counter

from helpers.testbed.hosts import network

PORT, HOST = 80, network.ADDRESSES["server"]
PROXY_PORT = 8080       # on the client's host, where a proxy stands there
SAID: Counter = Counter()


def said(what: object) -> None:
    """Count an answer or an error."""
    SAID[str(what)] += 1
