"""The `datagrams` table: UDP beside TCP, made only when it is asked for."""

import numpy as np
import pandas as pd

from helpers.captures import headers
from helpers.captures.batch import Batch
from helpers.captures.ip import address_texts, read_addresses
from helpers.captures.numbers import UDP_PROTOCOL
from helpers.captures.records import structures

PLACE = np.dtype([("number", "i8"), ("at", "i8"), ("end", "i8"), ("wire_end", "i8"), ("ip_at", "i8"),
                  ("next_type", "i8")])
NO_PLACES = {name: np.empty(0, PLACE[name]) for name in PLACE.names}


def places_of(batch: Batch) -> dict[str, np.ndarray]:
    """Where the UDP headers of the frames in `batch` lie: columns of `PLACE`, as a `Batch` has them."""
    udp = batch.protocol == UDP_PROTOCOL
    return {name: getattr(batch, name)[udp] for name in PLACE.names}


def datagrams_of(data: np.ndarray, places: dict[str, np.ndarray]) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The table of `Capture.datagrams`; and beside its rows `payload_at` and `payload_captured`, as segments have them.

    `places`: columns of `PLACE`, and `time`, that of the frame in seconds. A header that was not captured whole gives
    no row. The length that UDP claims counts where it is sound: not less than its header, not more than IP carries
    (RFC 768).
    """
    whole = places["at"] + headers.UDP.itemsize <= np.minimum(places["end"], places["wire_end"])
    at, end, wire_end, frame, time = (places[name][whole] for name in ("at", "end", "wire_end", "number", "time"))
    header, addresses = structures(data, at, headers.UDP), _Addresses(data, places, whole)
    read_addresses(addresses)
    claimed = header["length"].astype(np.int64)
    wire_end = np.where(claimed >= headers.UDP.itemsize, np.minimum(at + claimed, wire_end), wire_end)
    payload_at = at + headers.UDP.itemsize
    texts = address_texts(addresses.unique4, addresses.unique6)
    table = pd.DataFrame({
        "time": time, "src": pd.Categorical.from_codes(addresses.src, texts),
        "sport": header["sport"].astype(np.int64), "dst": pd.Categorical.from_codes(addresses.dst, texts),
        "dport": header["dport"].astype(np.int64), "length": wire_end - payload_at}, pd.Index(frame, name="frame"))
    return table, {"payload_at": payload_at,
                   "payload_captured": np.maximum(np.minimum(end, wire_end) - payload_at, 0)}


class _Addresses:
    """As much of a `Batch` as `read_addresses` needs."""

    def __init__(self, data, places, whole):
        self.data = data
        self.at, self.ip_at, self.next_type = (places[name][whole] for name in ("at", "ip_at", "next_type"))
