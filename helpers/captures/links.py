"""Link layers: from the first byte of a frame to the IP packet in it.

Each function moves the frames in `rows` of a `Batch` past one `header`, and sets `next_type` to what follows.
"""

from collections.abc import Callable

import numpy as np

from helpers.captures.batch import Batch, type_of_version
from helpers.captures.numbers import FAMILIES, LARGEST_802_3_LENGTH, LINKS, NFLOG_PAYLOAD, PPP_PROTOCOLS, Type


def pass_before(next_type: Type) -> Callable:
    """The function for a header of which only the size counts, because the same always follows it."""
    def unwrap(batch, rows, header):
        batch.at[rows] += header.dtype.itemsize
        batch.next_type[rows] = next_type
    return unwrap


def pass_with_type(batch: Batch, rows: np.ndarray, header: np.ndarray) -> None:
    """A header of a fixed size that names what follows: Linux's cooked ones, InfiniBand's."""
    batch.at[rows] += header.dtype.itemsize
    batch.next_type[rows] = header["type"]


def pass_ethernet(batch: Batch, rows: np.ndarray, header: np.ndarray) -> None:
    """Ethernet and VLAN tags: a type of 1,500 or less is the length of an IEEE 802.3 frame."""
    batch.at[rows] += header.dtype.itemsize
    kind = header["type"].astype(np.int64)
    short = kind <= LARGEST_802_3_LENGTH
    batch.end_at(rows[short], batch.at[rows[short]] + kind[short])
    batch.next_type[rows] = np.where(short, Type.LOGICAL_LINK, kind)


def pass_logical_link(batch: Batch, rows: np.ndarray, header: np.ndarray) -> None:
    """IEEE 802.2: IP's own access point, or the EtherType that SNAP gives (RFC 1042)."""
    organisation = header["organisation"]
    snap = (header["access_points"] == 0xAAAA) & (header["control"] == 3) & (organisation[:, :2] == 0).all(axis=1) \
        & np.isin(organisation[:, 2], (0, 0xF8))
    ip = (header["access_points"] == 0x0606) & (header["control"] == 3)
    batch.at[rows] += np.where(ip, 3, header.dtype.itemsize)
    snap &= header["type"] > LARGEST_802_3_LENGTH
    batch.next_type[rows] = np.where(ip, Type.IPV4, np.where(snap, header["type"], Type.NOT_IP_802_3))


def pass_token_ring(batch: Batch, rows: np.ndarray, header: np.ndarray) -> None:
    """Token Ring: the first bit of the source says whether routing information follows, which says how long it is."""
    routed = header["source"][:, 0] & 0x80 > 0
    batch.at[rows] += header.dtype.itemsize - 1 + np.where(routed, header["routing"] & 0x1F, 0)
    batch.next_type[rows] = np.where(header["control"] & 0xC0 == 0x40, Type.LOGICAL_LINK, Type.NOT_IP)


def pass_radiotap(batch: Batch, rows: np.ndarray, header: np.ndarray) -> None:
    """What the radio said of the frame: as many bytes as it gives."""
    batch.at[rows] += header["length"]
    batch.next_type[rows] = Type.WIRELESS


def pass_wireless(batch: Batch, rows: np.ndarray, header: np.ndarray) -> None:
    """IEEE 802.11: data frames that are not encrypted; quality of service and a fourth address lengthen the header."""
    control = header["control"].astype(np.int64)
    data = control & 0x404C == 0x0008
    quality, relayed, ordered = control & 0x0080 > 0, control & 0x0300 == 0x0300, control & 0x8080 == 0x8080
    batch.at[rows] += 24 + 6 * relayed + 2 * quality + 4 * ordered
    batch.next_type[rows] = np.where(data, Type.LOGICAL_LINK, Type.NOT_IP_802_11)


def pass_raw_ip(batch: Batch, rows: np.ndarray, header: np.ndarray) -> None:
    """No link header at all: the first byte says which version of IP it is."""
    batch.next_type[rows] = type_of_version(header["version_ihl"])


def pass_bsd_loopback(batch: Batch, rows: np.ndarray, header: np.ndarray) -> None:
    """BSD loopback: an address family, in the byte order of who wrote it, or an EtherType; or PPP."""
    family = header["family"].astype(np.int64)
    framed = family >> 16 == 0xFF03
    family = np.where(family > 0xFFFF, header["family"].astype(np.uint32).byteswap(), family)
    typed = (family > LARGEST_802_3_LENGTH) & (family <= 0xFFFF)
    batch.at[rows] += np.where(framed, 0, header.dtype.itemsize)
    batch.next_type[rows] = np.select([framed, typed, *[family == number for number in FAMILIES]],
                                      [Type.PPP, family, *FAMILIES.values()], Type.NOT_IP)


def pass_per_packet(batch: Batch, rows: np.ndarray, header: np.ndarray) -> None:
    """Per-Packet Information gives its length, and the link type of what follows."""
    batch.at[rows] += header["length"]
    batch.next_type[rows] = np.select([header["link"] == link for link in LINKS], list(LINKS.values()), Type.NOT_IP)


def pass_nflog_field(batch: Batch, rows: np.ndarray, header: np.ndarray) -> None:
    """Linux's netfilter log: fields with a length and a type, filled up to 4 bytes; one of them is the packet."""
    length, payload = header["length"].astype(np.int64), header["type"] == NFLOG_PAYLOAD
    batch.end_at(rows[payload], (batch.at[rows] + length)[payload])
    batch.at[rows] += np.where(payload, header.dtype.itemsize, np.maximum(length + 3 & ~3, header.dtype.itemsize))
    batch.next_type[rows] = np.where(payload, type_of_version(batch.byte(rows)), Type.NFLOG_FIELD)


def pass_cisco_hdlc(batch: Batch, rows: np.ndarray, header: np.ndarray) -> None:
    """Cisco's HDLC names an EtherType."""
    batch.at[rows] += header.dtype.itemsize
    batch.next_type[rows] = np.where(header["type"] > LARGEST_802_3_LENGTH, header["type"], Type.NOT_IP)


def pass_pppoe(batch: Batch, rows: np.ndarray, header: np.ndarray) -> None:
    """PPP over Ethernet gives the length of what follows (RFC 2516)."""
    batch.at[rows] += header.dtype.itemsize
    batch.end_at(rows, batch.at[rows] + header["length"])
    batch.next_type[rows] = Type.PPP


def pass_ppp(batch: Batch, rows: np.ndarray, header: np.ndarray) -> None:
    """PPP's protocol, of one byte or two, maybe behind the HDLC address (RFC 1661, 1662); or Cisco's HDLC."""
    word = header["protocol"].astype(np.int64)
    framed, cisco = word == 0xFF03, np.isin(word, (0x0F00, 0x8F00))
    compressed = (word >> 8 & 1 == 1) & ~framed
    protocol = np.where(compressed, word >> 8, word)
    batch.at[rows] += np.select([cisco, compressed], [0, 1], 2)
    batch.next_type[rows] = np.select(
        [framed, cisco, *[protocol == number for number in PPP_PROTOCOLS]],
        [Type.PPP, Type.CISCO_HDLC, *PPP_PROTOCOLS.values()], Type.OTHER_PPP + protocol)
