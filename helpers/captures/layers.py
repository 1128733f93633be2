"""From the link through tunnels to TCP: the headers of many frames at once, one layer after the other."""

import numpy as np

from helpers.captures import headers, links, tunnels
from helpers.captures.batch import Batch
from helpers.captures.datagrams import NO_PLACES, places_of
from helpers.captures.ip import pass_ip, read_addresses
from helpers.captures.numbers import (
    ACK,
    ALL_FLAGS,
    END_OF_OPTIONS,
    ETHERNET_LINK,
    LARGEST_SCALE,
    LINKS,
    NO_OPERATION,
    PROTOCOL_NAMES,
    RST,
    SYN,
    TCP_PROTOCOL,
    TUNNELS,
    UDP_PROTOCOL,
    UDP_TUNNELS,
    WINDOW_SCALE,
    Type,
)
from helpers.captures.pcapng import NO_PACKETS
from helpers.captures.records import distinct

DEEPEST = 64        # headers of one kind, or IP packets one in the other, that are followed
TOO_DEEP = f"more than {DEEPEST} headers before TCP"
PLAIN_LINK = ETHERNET_LINK
DOUBTFUL_SHIFT = 9  # how many bits higher the SYN and ACK of a header stand that claims less than 20 bytes
BYTES_OF_TCP = np.dtype(f"V{headers.TCP.itemsize}")

HEADERS = {         # what may stand before IP: its header, what it is called, how it is passed
    Type.ETHERNET: (headers.ETHERNET, "link header", links.pass_ethernet),
    Type.VLAN: (headers.VLAN_TAG, "VLAN tag", links.pass_ethernet),
    Type.SERVICE_VLAN: (headers.VLAN_TAG, "VLAN tag", links.pass_ethernet),
    Type.OLD_VLAN: (headers.VLAN_TAG, "VLAN tag", links.pass_ethernet),
    Type.VN_TAG: (headers.VN_TAG, "VN tag", links.pass_with_type),
    Type.E_TAG: (headers.E_TAG, "E tag", links.pass_with_type),
    Type.PROVIDER_BACKBONE: (headers.SERVICE_TAG, "service tag", links.pass_before(Type.ETHERNET)),
    Type.LOGICAL_LINK: (headers.LOGICAL_LINK, "IEEE 802.2 header", links.pass_logical_link),
    Type.RADIOTAP: (headers.RADIOTAP, "link header", links.pass_radiotap),
    Type.WIRELESS: (headers.WIRELESS, "link header", links.pass_wireless),
    Type.CISCO_HDLC: (headers.CISCO_HDLC, "link header", links.pass_cisco_hdlc),
    Type.PPP: (headers.PPP, "PPP header", links.pass_ppp),
    Type.PPPOE: (headers.PPPOE, "PPPoE header", links.pass_pppoe),
    Type.MPLS: (headers.MPLS, "MPLS label", tunnels.pass_mpls),
    Type.MPLS_UPSTREAM: (headers.MPLS, "MPLS label", tunnels.pass_mpls),
    Type.GRE: (headers.GRE, "GRE header", tunnels.pass_gre),
    Type.WCCP: (headers.VERSION, "WCCP header", tunnels.pass_wccp),
    Type.VXLAN: (headers.VXLAN, "VXLAN header", links.pass_before(Type.ETHERNET)),
    Type.GENEVE: (headers.GENEVE, "Geneve header", tunnels.pass_geneve),
    Type.GTP: (headers.GTP, "GTP header", tunnels.pass_gtp),
    Type.GTP_EXTENSION: (headers.GTP_EXTENSION, "GTP header", tunnels.pass_gtp_extension),
    Type.RAW_IP: (headers.VERSION, "link header", links.pass_raw_ip),
    Type.BSD_LOOPBACK: (headers.BSD_LOOPBACK, "link header", links.pass_bsd_loopback),
    Type.LINUX_COOKED: (headers.LINUX_COOKED, "link header", links.pass_with_type),
    Type.LINUX_COOKED_2: (headers.LINUX_COOKED_2, "link header", links.pass_with_type),
    Type.TOKEN_RING: (headers.TOKEN_RING, "link header", links.pass_token_ring),
    Type.NFLOG: (headers.NFLOG, "link header", links.pass_before(Type.NFLOG_FIELD)),
    Type.NFLOG_FIELD: (headers.NFLOG_FIELD, "link header", links.pass_nflog_field),
    Type.PPP_DIRECTION: (headers.PPP_DIRECTION, "link header", links.pass_before(Type.PPP)),
    Type.ERSPAN_1_2: (headers.ERSPAN, "ERSPAN header", tunnels.pass_erspan),
    Type.ERSPAN_3: (headers.ERSPAN, "ERSPAN header", tunnels.pass_erspan),
    Type.ETHER_IP: (headers.ETHER_IP, "EtherIP header", links.pass_before(Type.ETHERNET)),
    Type.VXLAN_GPE: (headers.VXLAN, "VXLAN header", tunnels.pass_vxlan_gpe),
    Type.L2TP: (headers.L2TP, "L2TP header", tunnels.pass_l2tp),
    Type.TEREDO: (headers.TEREDO, "Teredo header", tunnels.pass_teredo),
    Type.INFINIBAND: (headers.INFINIBAND, "link header", links.pass_with_type),
    Type.FABRIC_PATH: (headers.FABRIC_PATH, "FabricPath tag", links.pass_before(Type.ETHERNET)),
    Type.PER_PACKET: (headers.PER_PACKET, "link header", links.pass_per_packet)}


def decode(data: np.ndarray, frames: dict[str, np.ndarray], first: int) -> tuple:
    """The columns of the segments in `frames`, of which the first is number `first`; their addresses; what is skipped;
    where UDP lies (`datagrams.PLACE`); and the IP fragments (arrays of `fragments.FRAGMENT`).

    `src` and `dst` of the segments are places among the addresses: IPv4's (numbers) and, behind them, IPv6's (bytes).
    `flags`: numbers. A header that claims less than 20 bytes can't be believed: of its flags only SYN and ACK are
    there, `DOUBTFUL_SHIFT` bits higher than their places.
    """
    others = Batch(data, frames, first)
    batch = _take_plain(others)
    if len(others.at):
        _pass_layers(others)
        batch.put_back(others)
    read_addresses(batch)
    tcp = batch.tcp.view(headers.TCP)
    offset_flags = tcp["offset_flags"].astype(np.int64)
    header_length = (offset_flags >> 12) * 4
    sound = header_length >= headers.TCP_LENGTH
    flags = np.where(sound, offset_flags & ALL_FLAGS, (offset_flags & (SYN | ACK)) << DOUBTFUL_SHIFT)
    payload_at = np.where(sound, np.minimum(batch.at + header_length, batch.wire_end), batch.wire_end)
    length = batch.wire_end - payload_at
    options = batch.at + headers.TCP_LENGTH, np.minimum(payload_at, batch.end)
    columns = {"frame": batch.number, "src": batch.src, "dst": batch.dst, "flags": flags, "length": length,
               **{name: tcp[name] for name in ("sport", "dport", "seq", "ack", "window")}, "payload_at": payload_at,
               "payload_captured": np.minimum(np.maximum(batch.end - payload_at, 0), length),
               "scale": _window_scales(data, flags, *options)}
    return columns, (batch.unique4, batch.unique6), batch.skipped, vars(others).get("udp", NO_PLACES), \
        others.fragments


def _take_plain(batch):
    """Take the frames with nothing but Ethernet and IPv4 without options before a whole TCP header, moved past both.

    They are most frames of most captures, and one look at both headers is enough for them.
    """
    size = headers.ETHERNET_IPV4_TCP.itemsize
    mask = (batch.link == PLAIN_LINK) & (batch.at + size <= batch.end) & (batch.at + size <= batch.wire_end)
    header = batch.header(headers.ETHERNET_IPV4_TCP, mask)
    ip, total = header["ip"], header["ip"]["total_length"].astype(np.int64)
    simple = ((header["ethernet"]["type"] == Type.IPV4) & (ip["version_ihl"] == 0x45) & (ip["protocol"] == TCP_PROTOCOL)
              & (ip["flags_offset"] & 0x3FFF == 0)
              & ((total == 0) | (total >= headers.IPV4.itemsize + headers.TCP.itemsize)))
    mask[mask] = simple
    plain, total = batch.take(mask), total[simple]
    plain.ip_at = plain.at + headers.ETHERNET.itemsize
    plain.at = plain.at + size - headers.TCP.itemsize
    plain.end_at(slice(None), np.where(total == 0, plain.wire_end, plain.ip_at + total))
    plain.next_type = np.full(len(plain.at), Type.IPV4)
    plain.protocol, plain.tcp = np.full(len(plain.at), TCP_PROTOCOL), header["tcp"].view(BYTES_OF_TCP)[simple]
    return plain


def _pass_layers(batch):
    """Move every frame to its TCP header, and leave out those that have none."""
    _pass_link(batch)
    pass_ip(batch)
    _pass_tunnels(batch)
    batch.udp = places_of(batch)
    batch.keep(batch.protocol == TCP_PROTOCOL, _protocol_name, batch.protocol)
    whole = batch.at + headers.TCP.itemsize <= batch.wire_end
    batch.keep(whole, lambda more: "first IP fragment, shorter than a TCP header" if more else "malformed TCP header",
               batch.more)
    batch.keep(batch.at + headers.TCP.itemsize <= batch.end, "cut inside the TCP header")
    batch.tcp = batch.header(headers.TCP).view(BYTES_OF_TCP)


def _pass_link(batch):
    """Move every frame past its link header, and leave out those without IP."""
    batch.keep(np.isin(batch.link, list(LINKS)), _link_name, batch.link)
    batch.next_type = np.full(len(batch.at), Type.NOT_IP)
    for link in distinct(batch.link).tolist():
        batch.next_type[batch.link == link] = LINKS[link]
    _pass_headers(batch)


def _pass_headers(batch):
    """Move every frame past all `HEADERS` that stand before IP, and leave out those without IP."""
    at_ip, depth = [], 0
    while not (ip := np.isin(batch.next_type, (Type.IPV4, Type.IPV6))).all():
        if ip.any():
            at_ip.append(batch.take(ip))
        batch.keep(np.isin(batch.next_type, list(HEADERS)), _type_name, batch.next_type)
        batch.keep(np.full(len(batch.at), depth < DEEPEST), TOO_DEEP)
        depth += 1
        for kind, (dtype, name, pass_header) in HEADERS.items():
            if not (batch.next_type == kind).any():
                continue
            batch.keep((batch.next_type != kind) | (batch.at + dtype.itemsize <= batch.end), f"cut inside the {name}")
            rows = np.flatnonzero(batch.next_type == kind)
            pass_header(batch, rows, batch.header(dtype, rows))
    batch.put_back(*at_ip)


def _pass_tunnels(batch):
    """Move every frame whose IP packet carries another one on to the innermost."""
    for _ in range(DEEPEST):
        if not (carried := _carried(batch)).any():
            return
        inner = batch.take(carried != Type.NOT_IP)
        inner.next_type = carried[carried != Type.NOT_IP]
        _pass_headers(inner)
        pass_ip(inner)
        batch.put_back(inner)
    batch.keep(_carried(batch) == Type.NOT_IP, TOO_DEEP)


def _carried(batch):
    """The `Type` of what each IP packet carries where that is another packet, or `NOT_IP`."""
    carried = np.select([batch.protocol == number for number in TUNNELS], list(TUNNELS.values()), Type.NOT_IP)
    rows = np.flatnonzero((batch.protocol == UDP_PROTOCOL) & (batch.at + headers.UDP.itemsize < batch.end))
    header, of_port = batch.header(headers.UDP, rows), np.full(1 << 16, Type.NOT_IP)
    of_port[list(UDP_TUNNELS)] = list(UDP_TUNNELS.values())
    lower, higher = (of_port[one(header["sport"], header["dport"])] for one in (np.minimum, np.maximum))
    found = np.where(lower != Type.NOT_IP, lower, higher)
    batch.at[rows] += np.where(found != Type.NOT_IP, headers.UDP.itemsize, 0)
    carried[rows] = found
    return carried


def _window_scales(data, flags, at, end):
    """The shift of the window scale option (RFC 7323) in each SYN, 0 where there is none; options: `at` to `end`."""
    scales, rows = np.zeros(len(flags), np.int8), np.flatnonzero(flags & (SYN | RST) == SYN)
    at, end = at[rows], end[rows]
    while len(rows := rows[goes_on := at + 1 < end]):
        at, end = at[goes_on], end[goes_on]
        kind, size = data[at], data[at + 1]
        found = (kind == WINDOW_SCALE) & (at + 2 < end)
        scales[rows[found]] = np.minimum(data[at[found] + 2], LARGEST_SCALE)
        goes_on = (kind != END_OF_OPTIONS) & ~found
        step = np.where(kind == NO_OPERATION, 1, np.maximum(size, 2))
        rows, at, end = rows[goes_on], (at + step)[goes_on], end[goes_on]
    return scales


# Why a frame is skipped

def _link_name(link):
    return NO_PACKETS.get(-link, f"link type {link}")


def _type_name(kind):
    names = {Type.ARP: "ARP", Type.LLDP: "LLDP", Type.NOT_IP: "not IP", Type.NOT_IP_802_11: "not IP (IEEE 802.11)"}
    if kind >= Type.OTHER_PPP:
        return f"not IP (PPP protocol 0x{kind - Type.OTHER_PPP:04x})"
    return names.get(kind, f"not IP (type 0x{kind:04x})" if kind >= 0x600 else "not IP (IEEE 802.3)")


def _protocol_name(number):
    return PROTOCOL_NAMES.get(number, f"IP protocol {number}")
