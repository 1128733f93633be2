"""What is wrong, with whom, how many, and what to do: findings from tables."""

from helpers.diagnosis.finding import Finding
from helpers.diagnosis.socket_rules import SocketLimits, diagnose_sockets

__all__ = ["Finding", "SocketLimits", "diagnose_sockets"]
