"""What the kernel said of its sockets: lists by `ss`, `netstat` or `/proc/net/tcp`, read into tables."""

from helpers.sockets.lists import SocketError, SocketLists, read_sockets

__all__ = ["SocketError", "SocketLists", "read_sockets"]
