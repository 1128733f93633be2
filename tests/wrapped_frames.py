"""One TCP segment, `hello` from port 50000 to 80, in every link layer and tunnel that is read."""

import struct

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q, Ether

HELLO = TCP(sport=50000, dport=80, flags="PA", seq=7, ack=9) / b"hello"
IP4 = bytes(IP(src="10.0.0.1", dst="10.0.0.2") / HELLO)
IP6 = bytes(IPv6(src="2001:db8::1", dst="2001:db8::100") / HELLO)

# Ends of headers
MACS = bytes(12)
TYPE_4, TYPE_6, TYPE_MPLS = b"\x08\0", b"\x86\xdd", b"\x88\x47"
SNAP = b"\xaa\xaa\3\0\0\0"      # IEEE 802.2 and SNAP, the type follows
BOTTOM = b"\0\0\1\xff"          # the last MPLS label
NOT_BOTTOM = b"\0\0\0\xff"
HDLC_PPP = b"\xff\3"            # HDLC's address and control before a PPP protocol
PPP_4, PPP_6 = b"\0\x21", b"\0\x57"


def ethernet(**fields):
    return Ether(dst="00:00:00:00:00:02", **fields)


def loopback(order, family):
    return struct.pack(order + "I", family)


LINKS = [                       # (link type, frame)
    (1, bytes(ethernet(type=0x0800)) + IP4),
    (1, bytes(ethernet(type=0x86DD)) + IP6),
    (1, bytes(ethernet() / Dot1Q(vlan=5, type=0x0800)) + IP4),
    (1, bytes(ethernet() / Dot1AD(vlan=5) / Dot1Q(vlan=6, type=0x86DD)) + IP6),
    (1, bytes(ethernet(type=0x9100)) + b"\0\5" + TYPE_4 + IP4),
    (113, bytes(CookedLinux(proto=0x0800)) + IP4),
    (113, bytes(CookedLinux(proto=0x86DD)) + IP6),
    (113, bytes(CookedLinux(proto=0x8100)) + b"\0\5" + TYPE_4 + IP4),
    (276, bytes(CookedLinuxV2(proto=0x0800)) + IP4),
    (276, bytes(CookedLinuxV2(proto=0x86DD)) + IP6),
    *[(link, loopback(order, 2) + IP4) for link in (0, 108) for order in "<>"],
    *[(link, loopback(order, family) + IP6) for link in (0, 108) for order in "<>" for family in (10, 24, 28, 30)],
    *[(link, data) for link in (12, 14, 101) for data in (IP4, IP6)],
    (228, IP4),
    (229, IP6),
    *[(link, head + data) for link in (9, 50) for head, data in [
        (HDLC_PPP + PPP_4, IP4), (HDLC_PPP + PPP_6, IP6),
        (PPP_4, IP4), (PPP_6, IP6),
        (b"\x21", IP4), (b"\x57", IP6),                         # a protocol compressed to one byte
        (b"\x0f\0" + TYPE_4, IP4), (b"\x8f\0" + TYPE_6, IP6)]],     # Cisco's HDLC
    *[(link, head + control + bytes(size) + SNAP + TYPE_4 + IP4)
      for link, head in [(105, b""), (127, b"\0\0\x08\0\0\0\0\0")]
      for control, size in [(b"\x08\1", 22), (b"\x08\2", 22), (b"\x08\3", 28), (b"\x88\1", 24), (b"\x88\x82", 28)]],
    (51, b"\x11\0\0\1\0\x2f" + PPP_4 + IP4),
    (104, b"\x0f\0" + TYPE_4 + IP4),
    (104, b"\x0f\0" + TYPE_6 + IP6),
    (104, b"\x0f\0" + TYPE_MPLS + BOTTOM + IP4),
    (113, bytes(CookedLinux(proto=4)) + SNAP + TYPE_4 + IP4),
    (1, MACS + b"\x88\x64\x11\0\0\1\0\x2f" + PPP_4 + IP4),          # PPPoE
    (1, MACS + TYPE_MPLS + BOTTOM + IP4),
    (1, MACS + b"\x88\x48" + NOT_BOTTOM + BOTTOM + IP4),
    (1, MACS + b"\x81\0\0\5" + TYPE_MPLS + BOTTOM + IP4),
    (1, MACS + b"\0\x35" + SNAP + TYPE_4 + IP4),                    # IEEE 802.3
    (1, MACS + b"\0\x30\6\6\3" + IP4),
    (1, MACS + b"\x81\0\0\5\0\x35" + SNAP + TYPE_4 + IP4),
    (1, MACS + b"\x88\x64\x11\0\0\1\0\x43" + PPP_6 + IP6 + b"padding"),
    (1, MACS + TYPE_4 + IP6),                                       # the version counts, not the type
    (0, b"\0\0" + TYPE_4 + IP4),
    (0, b"\xdd\x86\0\0" + IP6),
    (0, b"\0\0\x81\0\0\5" + TYPE_4 + IP4),
    (0, HDLC_PPP + PPP_4 + IP4),
    (204, b"\0" + HDLC_PPP + PPP_4 + IP4),
    (204, b"\1" + PPP_6 + IP6),
    (239, b"\2\0\0\5\x31\0\x09\0" + IP4),
    (239, b"\x0a\0\0\5\x08\0\1\0\x86\xdd\1\0\x06\0\x0a\0a\0\0\0\x45\0\x09\0" + IP6 + b"pad"),
    (239, b"\2\0\0\5\x0c\0\1\0\x08\0\x09\0\0\0\0\0\x31\0\x09\0" + IP4),    # what a field holds is no field
    (6, b"\x10\x40" + MACS + SNAP + TYPE_4 + IP4),
    (6, b"\x10\x41" + bytes(6) + b"\1" + bytes(5) + SNAP + TYPE_4 + IP4),      # a source whose other bits say no route
    (242, bytes(40) + TYPE_4 + b"\0\0" + IP4),
    (192, b"\0\0\x0c\0\1\0\0\0" + bytes(4) + MACS + TYPE_6 + IP6),
    (192, b"\0\0\x08\0\x69\0\0\0\x08\1" + bytes(22) + SNAP + TYPE_4 + IP4),
    (1, MACS + b"\x89\3\0\5" + MACS + TYPE_6 + IP6 + b"\0CRC"),      # FabricPath
    (6, b"\x10\x40" + bytes(6) + b"\x80" + bytes(5) + b"\6\x30\0\1\0\2" + SNAP + TYPE_6 + IP6)]    # a route


def gre(head, rest=b""):
    return IP(proto=47), head + rest


def udp(between, sport=50000, dport=0, ip=IP):
    return ip() / UDP(sport=sport, dport=dport), between


def gtp_extended(extensions, inner):
    """GTP-U with extension headers."""
    size = 4 + len(extensions + inner)
    return *udp(b"\x34\xff" + struct.pack(">HI", size, 1) + b"\0\0\0" + extensions, 5000, 2152), inner


def gpe(number, between, inner):
    """VXLAN with a next protocol."""
    return *udp(b"\x0c\0\0" + bytes([number]) + bytes(4) + between, 5000, 4790), inner


TUNNELS = [                     # (outer packet, bytes between, inner packet)
    (IP(proto=4), b"", IP4),
    (IP(proto=41), b"", IP6),
    (IPv6(nh=4), b"", IP4),
    (IPv6(nh=41), b"", IP6),
    (IP(proto=4) / IP(proto=41), b"", IP6),
    (*gre(b"\0\0", TYPE_4), IP4),
    (*gre(b"\xb0\0", TYPE_6 + bytes(12)), IP6),
    (*gre(b"\x20\0", TYPE_MPLS + b"\0\0\0\7" + BOTTOM), IP4),
    (*gre(b"\x30\x81\x88\x0b\0\x31\0\1", bytes(8) + HDLC_PPP + PPP_4), IP4),      # PPTP
    (*gre(b"\0\0\x65\x58", MACS + b"\x81\0\0\5" + TYPE_4), IP4),
    (*gre(b"\0\0\x88\x3e"), IP4),                                    # WCCP 1
    (*gre(b"\0\0\x88\x3e\0\1\2\3"), IP4),                            # WCCP 2: a redirect header
    (IP(proto=51), b"\4\4" + bytes(22), IP4),
    (*udp(b"\x08" + bytes(7) + MACS + TYPE_4, 5000, 4789), IP4),
    (*udp(b"\2\0\x65\x58" + bytes(4 + 8) + MACS + TYPE_6, dport=6081, ip=IPv6), IP6),
    (*udp(b"\x30\xff\0\x2d" + bytes(4), 5000, 2152), IP4),
    (*udp(b"\x32\xff\0\x45" + bytes(8), 2152, 5000), IP6),
    (*udp(b"\x31\xff\0\x31" + bytes(7) + b"\x85", 5000, 2152), IP4),    # without the flag it names no extension
    gtp_extended(b"\x85\1\x10\0\1\1\0\0\0", IP4),
    gtp_extended(b"\0", IP4),
    gtp_extended(b"\x85\1\x10\0\0", IP4),
    gtp_extended(b"\xc0\1\1\2\x85\2\x10\0\0\0\0\0\0", IP6),
    (*udp(b"\x30\xff\0\x2d" + bytes(4), 4789, 2152), IP4),           # the lower port counts
    (IP(proto=137), BOTTOM, IP4),
    (IPv6(nh=137), NOT_BOTTOM + BOTTOM, IP6),
    (*udp(BOTTOM, dport=6635), IP4),
    *[(*udp(l2tp, 1701, 1701), IP4) for l2tp in [
        b"\0\2" + bytes(4) + HDLC_PPP + PPP_4,
        b"\0\2" + bytes(4) + PPP_4,
        b"\x40\2\0\x39" + bytes(4) + HDLC_PPP + PPP_4,
        b"\x4a\2\0\x42" + bytes(8) + b"\0\3abc" + HDLC_PPP + PPP_4,
        b"\2\2" + bytes(4) + b"\0\0" + HDLC_PPP + PPP_4]],
    *[(*udp(teredo, dport=3544), IP6) for teredo in [
        b"", bytes(8), b"\0\1\0\0" + bytes(9), b"\0\1\2\3abcde" + bytes(9 + 8)]],
    (IP(proto=97), b"\x30\0" + MACS + TYPE_4, IP4),
    (IPv6(nh=97), b"\x30\0" + MACS + TYPE_6, IP6),
    *[(*gre(erspan, MACS + TYPE_4), IP4) for erspan in [
        b"\0\0\x88\xbe",
        b"\x10\0\x88\xbe\0\0\0\1\x10\0\0\1" + bytes(4),
        b"\x10\0\x22\xeb\0\0\0\1\x20\0\0\1" + bytes(8),
        b"\x10\0\x22\xeb\0\0\0\1\x20\0\0\1" + bytes(7) + b"\1" + bytes(8)]],
    gpe(1, b"", IP4),
    gpe(2, b"", IP6),
    gpe(3, MACS + TYPE_4, IP4),
    gpe(5, BOTTOM, IP6),
    (IPv6(nh=140), b"\x29\0\x80" + bytes(5), IP6)]
