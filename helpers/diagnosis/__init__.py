"""What is wrong, with whom, how many, and what to do: findings from tables."""

from helpers.diagnosis.capture_rules import RULES, diagnose
from helpers.diagnosis.case import LIMITS, Limits
from helpers.diagnosis.finding import Finding
from helpers.diagnosis.socket_rules import SOCKET_RULES, SocketLimits, diagnose_sockets

__all__ = ["LIMITS", "RULES", "SOCKET_RULES", "Finding", "Limits", "SocketLimits", "diagnose", "diagnose_sockets"]
