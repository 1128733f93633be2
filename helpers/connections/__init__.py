"""TCP connections from segments: how each opened and ended, who closed, who reset, who waits, which end is which."""

from helpers.connections.ends import FIN_TIMEOUT, TIMER_SLACK, addresses, end_events, forgotten_at, keepalive_probes
from helpers.connections.repeats import COPIES
from helpers.connections.table import connections
from helpers.flow import HOSTS, handshakes, segment_flow
from helpers.quic import quic_connections

__all__ = ["COPIES", "FIN_TIMEOUT", "HOSTS", "TIMER_SLACK", "addresses", "connections", "end_events", "forgotten_at",
           "handshakes", "keepalive_probes", "quic_connections", "segment_flow"]
