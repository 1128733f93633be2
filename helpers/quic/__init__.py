"""QUIC from datagrams: `quic_connections(capture)`, `quic_exchanges(capture)` and `quic_marks(capture)`."""

from helpers.quic.tables import quic_connections, quic_exchanges, quic_marks

__all__ = ["quic_connections", "quic_exchanges", "quic_marks"]
