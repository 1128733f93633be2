"""QUIC: packets, their protection, and the frames in them (RFC 9000, 9001, 9369, and draft 29)."""

from helpers.protocols.quic.frame_types import Close, Crypto, NewId, Reset, Stream, frames
from helpers.protocols.quic.hello import read_client_hello, read_encrypted_extensions
from helpers.protocols.quic.keys import OneSide, Protection, initial_protection, protections, retry_is_sound
from helpers.protocols.quic.packet_headers import (
    HANDSHAKE,
    INITIAL,
    KNOWN_VERSIONS,
    ONE_RTT,
    RETRY,
    VERSION_NEGOTIATION,
    ZERO_RTT,
    Packet,
    packets,
    version_name,
)
from helpers.protocols.quic.received import Received

__all__ = ["HANDSHAKE", "INITIAL", "KNOWN_VERSIONS", "ONE_RTT", "RETRY", "VERSION_NEGOTIATION", "ZERO_RTT", "Close",
           "Crypto", "NewId", "OneSide", "Packet", "Protection", "Received", "Reset", "Stream", "frames",
           "initial_protection", "packets", "protections", "read_client_hello", "read_encrypted_extensions",
           "retry_is_sound", "version_name"]
