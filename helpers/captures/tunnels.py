"""Headers between the link, or one IP header, and the IP header of the packet that they carry.

Each function moves the frames in `rows` of a `Batch` past one `header`, and sets `next_type` to what follows.
"""

import numpy as np

from helpers.captures.batch import Batch, type_of_version
from helpers.captures.numbers import LARGEST_802_3_LENGTH, VXLAN_GPE_PROTOCOLS, Type


def pass_mpls(batch: Batch, rows: np.ndarray, header: np.ndarray) -> None:
    """MPLS: what follows the bottom of the label stack says its IP version itself (RFC 3032)."""
    batch.at[rows] += header.dtype.itemsize - 1
    bottom = header["bottom"] & 1 == 1
    batch.next_type[rows] = np.where(bottom, type_of_version(header["version_ihl"]), batch.next_type[rows])


def pass_gre(batch: Batch, rows: np.ndarray, header: np.ndarray) -> None:
    """GRE: check sum, key, numbers are there where flags say so (RFC 2784, 2890, 2637); ERSPAN I adds no header."""
    flags = header["flags_version"]
    words = (flags & 0xC000 > 0).astype(np.int64) + (flags & 0x2000 > 0) + (flags & 0x1000 > 0) + (flags & 0x0080 > 0)
    batch.at[rows] += header.dtype.itemsize + 4 * words
    kind = np.where((header["type"] == Type.ERSPAN_1_2) & (flags & 0x1000 == 0), Type.ETHERNET, header["type"])
    batch.next_type[rows] = np.where(kind > LARGEST_802_3_LENGTH, kind, Type.NOT_IP)


def pass_wccp(batch: Batch, rows: np.ndarray, header: np.ndarray) -> None:
    """WCCP: version 2 has a header of 4 bytes, version 1 none (draft-wilson-wrec-wccp-v2); the packet is of IPv4."""
    batch.at[rows] += np.where(header["version_ihl"] >> 4 == 4, 0, 4)
    batch.next_type[rows] = Type.IPV4


def pass_erspan(batch: Batch, rows: np.ndarray, header: np.ndarray) -> None:
    """ERSPAN II and III; in III the last bit says that eight bytes more follow (draft-foschiano-erspan)."""
    third = header["version_vlan"] >> 12 == 2
    batch.at[rows] += np.where(third, 11, header.dtype.itemsize)
    batch.at[rows] += np.where(third, 1 + 8 * (batch.byte(rows) & 1), 0)
    batch.next_type[rows] = Type.ETHERNET


def pass_vxlan_gpe(batch: Batch, rows: np.ndarray, header: np.ndarray) -> None:
    """VXLAN's generic extension names what follows."""
    batch.at[rows] += header.dtype.itemsize
    batch.next_type[rows] = np.select([header["next"] == number for number in VXLAN_GPE_PROTOCOLS],
                                      list(VXLAN_GPE_PROTOCOLS.values()), Type.NOT_IP)


def pass_geneve(batch: Batch, rows: np.ndarray, header: np.ndarray) -> None:
    """Geneve: the length of its options counts words of 4 bytes (RFC 8926)."""
    batch.at[rows] += header.dtype.itemsize + 4 * (header["version_options"] & 0x3F).astype(np.int64)
    batch.next_type[rows] = header["type"]


def pass_gtp(batch: Batch, rows: np.ndarray, header: np.ndarray) -> None:
    """GTP-U: a packet of a user, maybe behind extension headers (3GPP TS 29.281)."""
    numbered, extended = header["flags"] & 0x07 > 0, header["flags"] & 0x04 > 0
    batch.end_at(rows, batch.at[rows] + header.dtype.itemsize - 1 + header["length"])
    batch.at[rows] += np.where(numbered, 11, header.dtype.itemsize - 1)
    extended &= batch.byte(rows) > 0
    batch.at[rows] += numbered
    packet = (header["flags"] & 0xF0 == 0x30) & (header["type"] == 255)
    batch.next_type[rows] = np.select([~packet, extended], [Type.NOT_IP, Type.GTP_EXTENSION],
                                      type_of_version(batch.byte(rows)))


def pass_gtp_extension(batch: Batch, rows: np.ndarray, header: np.ndarray) -> None:
    """An extension of GTP-U: its length in words of 4 bytes comes first, what follows it is named by its last byte."""
    size = 4 * header["length"].astype(np.int64)
    batch.at[rows] += size - 1
    extended = batch.byte(rows) > 0
    batch.at[rows] += 1
    batch.next_type[rows] = np.select([size == 0, extended], [Type.NOT_IP, Type.GTP_EXTENSION],
                                      type_of_version(batch.byte(rows)))


def pass_l2tp(batch: Batch, rows: np.ndarray, header: np.ndarray) -> None:
    """L2TP: length, numbers and an offset are there where the flags say so (RFC 2661)."""
    flags = header["flags_version"].astype(np.int64)
    sized, numbered, offset = flags & 0x4000 > 0, flags & 0x0800 > 0, flags & 0x0200 > 0
    batch.end_at(rows[sized], (batch.at[rows] + header["length"])[sized])
    batch.at[rows] += header.dtype.itemsize + 2 * sized + 4 * numbered + offset
    batch.at[rows] += np.where(offset, batch.byte(rows).astype(np.int64) + 1, 0)
    batch.next_type[rows] = np.where(flags & 0x800F == 2, Type.PPP, Type.NOT_IP)


def pass_teredo(batch: Batch, rows: np.ndarray, header: np.ndarray) -> None:
    """Teredo: IPv6, maybe behind an authentication or the origin's address (RFC 4380)."""
    kind, size = header["kind"], 13 + header["client"].astype(np.int64) + header["authentication"]
    batch.at[rows] += np.select([kind == 0, kind == 1], [8, size], 0)
    batch.next_type[rows] = np.select([kind <= 1, kind >> 12 == 6], [Type.TEREDO, Type.IPV6], Type.NOT_IP)
