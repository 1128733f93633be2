"""What the rules are given: the tables and facts of a capture, and the thresholds."""

from typing import NamedTuple

import pandas as pd

from helpers.diagnosis.per_connection import Tables


class Limits(NamedTuple):
    """The thresholds of the rules, each with its reason."""

    close_wait: float = 1.0      # seconds; a program that closes after the peer's FIN does so within milliseconds
    wait: float = 1.0            # seconds to the first byte of an answer; what people notice (Nielsen 1993)
    slow: int = 3                # so many slow answers: one may be chance
    many: int = 20               # connections of one client to one server, before a missing reuse is worth a word
    single: float = 0.95         # share of connections with exactly one request that makes "no reuse"
    surplus: float = 1.5         # connections for each one that was ever busy at once
    at_once: float = 0.5         # seconds; a pool that is full closes what it gets back at once, and not by patience
    repeats: int = 3             # Linux repeats after 0.2, 0.4, 0.8 s ...: the third time after more than a second;
    silent: float = 1.0          # ... seconds: copies of a frame that was captured several times come sooner
    syn_repeated: float = 0.5    # seconds; every system waits longer before it repeats a SYN (RFC 6298: 1 s)
    pause: float = 0.1           # seconds; a server that closes sooner had not meant to wait for a request
    zero_window: float = 0.5     # seconds; a reader that is merely busy opens its window sooner
    port_back: float = 5.0       # seconds after 60 s; Linux lets a TIME_WAIT go up to 4 s late (measured: 3.4)
    ports_again: int = 5         # so many ports taken again: one or two may be chance
    scarce: float = 0.5          # share of new connections on such ports: with most ports free it is a few hundredths
    port_range: tuple[int, int] = (32768, 60999)     # the ports that clients get; Linux: ip_local_port_range
    ports: float = 0.8           # the share of it towards one server above which the end is near
    asked_again: float = 5.0     # seconds; a client that repeats what GOAWAY left out does so as soon as it has dialled
    for_all: int = 2             # requests on one silent connection: what makes it a matter of all
    copies: float = 0.1          # share of segments that were captured before: an interface seen twice doubles many
    one_sided: float = 0.5       # share of connections with one direction: more than that is the capture's way


LIMITS = Limits()


class Case(NamedTuple):
    """What a rule is given: the tables, and the facts of `per_connection` by connection.

    The tables are made without the `copies` (how many segments) that the file has of frames, where they are many.
    `one_sided`: connections that have one direction in the file; `facts` is without them.
    """

    tables: Tables
    facts: pd.DataFrame
    limits: Limits
    copies: int
    one_sided: pd.Index

    def silent(self) -> pd.DataFrame:
        """The rows of `facts` with data that were repeated and never acknowledged, on a connection that had worked."""
        facts, limits = self.facts, self.limits
        return facts[(facts["repeated"] >= limits.repeats) & (facts["repeated_for"] >= limits.silent)
                     & (facts["heard"] > 0) & facts["established"].notna()]
