"""QUIC from datagrams: `quic_connections(capture)`, `quic_exchanges`, `quic_marks` and `quic_unread`."""

from helpers.quic.tables import quic_connections, quic_exchanges, quic_marks, quic_unread

__all__ = ["quic_connections", "quic_exchanges", "quic_marks", "quic_unread"]
