"""The course's rules, played: `play(page, client, server, wire)` gives the tables of a recording, without a network."""

from helpers.model.against import foretold, foretold_counts, held_against_recordings
from helpers.model.crowd import arrivals, time_waits_of_crowd
from helpers.model.playing import Played, play
from helpers.model.rules import (
    CHROMIUM,
    CHROMIUM_INCOGNITO,
    CLIENTS,
    FIREFOX,
    HTTP2,
    HTTP2_FIREFOX,
    HTTP3,
    HTTPS_CHROMIUM,
    HTTPS_FIREFOX,
    POOLS,
    REQUESTS_GET,
    RULES_2018,
    Client,
    Page,
    Server,
    Wire,
)

__all__ = [
    "CHROMIUM", "CHROMIUM_INCOGNITO", "CLIENTS", "FIREFOX", "HTTP2", "HTTP2_FIREFOX", "HTTP3", "HTTPS_CHROMIUM",
    "HTTPS_FIREFOX", "POOLS", "REQUESTS_GET", "RULES_2018", "Client", "Page", "Played", "Server", "Wire", "arrivals",
    "foretold", "foretold_counts", "held_against_recordings", "play", "time_waits_of_crowd"]
