"""One TCP segment, `hello` from port 50000 to 80, in every link layer and tunnel that is read."""

import struct

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q, Ether

IP4 = bytes(IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=50000, dport=80, flags="PA", seq=7, ack=9) / b"hello")
IP6 = bytes(IPv6(src="2001:db8::1", dst="2001:db8::100") / TCP(sport=50000, dport=80, flags="PA", seq=7, ack=9) / b"hello")
SNAP = b"\xaa\xaa\3\0\0\0"
LINKS = [
    (1, bytes(Ether(dst="00:00:00:00:00:02", type=0x0800)) + IP4), (1, bytes(Ether(dst="00:00:00:00:00:02", type=0x86DD)) + IP6),
    (1, bytes(Ether(dst="00:00:00:00:00:02") / Dot1Q(vlan=5, type=0x0800)) + IP4),
    (1, bytes(Ether(dst="00:00:00:00:00:02") / Dot1AD(vlan=5) / Dot1Q(vlan=6, type=0x86DD)) + IP6),
    (1, bytes(Ether(dst="00:00:00:00:00:02", type=0x9100)) + b"\0\5\x08\0" + IP4),
    (113, bytes(CookedLinux(proto=0x0800)) + IP4), (113, bytes(CookedLinux(proto=0x86DD)) + IP6),
    (113, bytes(CookedLinux(proto=0x8100)) + b"\0\5\x08\0" + IP4),
    (276, bytes(CookedLinuxV2(proto=0x0800)) + IP4), (276, bytes(CookedLinuxV2(proto=0x86DD)) + IP6),
    *[(link, struct.pack(order + "I", 2) + IP4) for link in (0, 108) for order in "<>"],
    *[(link, struct.pack(order + "I", family) + IP6) for link in (0, 108) for order in "<>" for family in (10, 24, 28, 30)],
    *[(link, data) for link in (12, 14, 101) for data in (IP4, IP6)], (228, IP4), (229, IP6),
    *[(link, head + data) for link in (9, 50) for head4, head6 in [(b"\xff\x03\0\x21", b"\xff\x03\0\x57"), (b"\0\x21", b"\0\x57"),
      (b"\x21", b"\x57"), (b"\x0f\0\x08\0", b"\x8f\0\x86\xdd")] for head, data in [(head4, IP4), (head6, IP6)]],
    *[(link, head + control + bytes(size) + SNAP + b"\x08\0" + IP4) for link, head in [(105, b""), (127, b"\0\0\x08\0\0\0\0\0")]
      for control, size in [(b"\x08\1", 22), (b"\x08\2", 22), (b"\x08\3", 28), (b"\x88\1", 24), (b"\x88\x82", 28)]],
    (51, b"\x11\0\0\1\0\x2f\0\x21" + IP4), (104, b"\x0f\0\x08\0" + IP4), (104, b"\x0f\0\x86\xdd" + IP6),
    (104, b"\x0f\0\x88\x47\0\0\1\xff" + IP4), (113, bytes(CookedLinux(proto=4)) + SNAP + b"\x08\0" + IP4),
    *[(1, bytes(12) + between + IP4) for between in [
        b"\x88\x64\x11\0\0\1\0\x2f\0\x21", b"\x88\x47\0\0\1\xff", b"\x88\x48\0\0\0\xff\0\0\1\xff", b"\x81\0\0\5\x88\x47\0\0\1\xff",
        b"\0\x35" + SNAP + b"\x08\0", b"\0\x30\6\6\3", b"\x81\0\0\5\0\x35" + SNAP + b"\x08\0"]],
    (1, bytes(12) + b"\x88\x64\x11\0\0\1\0\x43\0\x57" + IP6 + b"padding"), (1, bytes(12) + b"\x08\0" + IP6),
    (0, b"\0\0\x08\0" + IP4), (0, b"\xdd\x86\0\0" + IP6), (0, b"\0\0\x81\0\0\5\x08\0" + IP4), (0, b"\xff\3\0\x21" + IP4),
    (204, b"\0\xff\3\0\x21" + IP4), (204, b"\1\0\x57" + IP6),
    (239, b"\2\0\0\5\x31\0\x09\0" + IP4), (239, b"\x0a\0\0\5\x08\0\1\0\x86\xdd\1\0\x06\0\x0a\0a\0\0\0\x45\0\x09\0" + IP6 + b"pad"),
    (6, b"\x10\x40" + bytes(12) + SNAP + b"\x08\0" + IP4), (242, bytes(40) + b"\x08\0\0\0" + IP4),
    (192, b"\0\0\x0c\0\1\0\0\0" + bytes(4) + bytes(12) + b"\x86\xdd" + IP6), (192, b"\0\0\x08\0\x69\0\0\0\x08\1" + bytes(22) + SNAP + b"\x08\0" + IP4),
    (1, bytes(12) + b"\x89\3\0\5" + bytes(12) + b"\x86\xdd" + IP6 + b"\0CRC"),
    (6, b"\x10\x40" + bytes(6) + b"\x80" + bytes(5) + b"\6\x30\0\1\0\2" + SNAP + b"\x86\xdd" + IP6)]
TUNNELS = [
    (IP(proto=4), b"", IP4), (IP(proto=41), b"", IP6), (IPv6(nh=4), b"", IP4), (IPv6(nh=41), b"", IP6), (IP(proto=4) / IP(proto=41), b"", IP6),
    (IP(proto=47), b"\0\0\x08\0", IP4), (IP(proto=47), b"\xb0\0\x86\xdd" + bytes(12), IP6), (IP(proto=47), b"\x20\0\x88\x47\0\0\0\7\0\0\1\xff", IP4),
    (IP(proto=47), b"\x30\x81\x88\x0b\0\x31\0\1" + bytes(8) + b"\xff\x03\0\x21", IP4),
    (IP(proto=47), b"\0\0\x65\x58" + bytes(12) + b"\x81\0\0\5\x08\0", IP4), (IP(proto=51), b"\4\4" + bytes(22), IP4),
    (IP() / UDP(sport=5000, dport=4789), b"\x08" + bytes(7 + 12) + b"\x08\0", IP4), (IPv6() / UDP(sport=50000, dport=6081), b"\2\0\x65\x58" + bytes(4 + 8 + 12) + b"\x86\xdd", IP6),
    (IP() / UDP(sport=5000, dport=2152), b"\x30\xff\0\x2d" + bytes(4), IP4), (IP() / UDP(sport=2152, dport=5000), b"\x32\xff\0\x45" + bytes(8), IP6),
    *[(IP() / UDP(sport=5000, dport=2152), b"\x34\xff" + struct.pack(">HI", 4 + len(extensions + inner), 1) + b"\0\0\0" + extensions, inner)
      for extensions, inner in [(b"\0", IP4), (b"\x85\1\x10\0\0", IP4), (b"\xc0\1\1\2\x85\2\x10\0\0\0\0\0\0", IP6)]],
    (IP() / UDP(sport=4789, dport=2152), b"\x30\xff\0\x2d" + bytes(4), IP4),
    (IP(proto=137), b"\0\0\1\xff", IP4), (IPv6(nh=137), b"\0\0\0\xff\0\0\1\xff", IP6),
    (IP() / UDP(sport=50000, dport=6635), b"\0\0\1\xff", IP4),
    *[(IP() / UDP(sport=1701, dport=1701), flags + between, IP4) for flags, between in [
        (b"\0\2", bytes(4) + b"\xff\3\0\x21"), (b"\0\2", bytes(4) + b"\0\x21"), (b"\x40\2", b"\0\x39" + bytes(4) + b"\xff\3\0\x21"),
        (b"\x4a\2", b"\0\x42" + bytes(8) + b"\0\3abc\xff\3\0\x21"), (b"\2\2", bytes(4) + b"\0\0\xff\3\0\x21")]],
    *[(IP() / UDP(sport=50000, dport=3544), between, IP6) for between in [
        b"", bytes(8), b"\0\1\0\0" + bytes(9), b"\0\1\2\3abcde" + bytes(9 + 8)]],
    (IP(proto=97), b"\x30\0" + bytes(12) + b"\x08\0", IP4), (IPv6(nh=97), b"\x30\0" + bytes(12) + b"\x86\xdd", IP6),
    *[(IP(proto=47), head + bytes(12) + b"\x08\0", IP4) for head in [
        b"\0\0\x88\xbe", b"\x10\0\x88\xbe\0\0\0\1\x10\0\0\1" + bytes(4), b"\x10\0\x22\xeb\0\0\0\1\x20\0\0\1" + bytes(8),
        b"\x10\0\x22\xeb\0\0\0\1\x20\0\0\1" + bytes(7) + b"\1" + bytes(8)]],
    *[(IP() / UDP(sport=5000, dport=4790), b"\x0c\0\0" + bytes([number]) + bytes(4) + between, inner) for number, between, inner in [
        (1, b"", IP4), (2, b"", IP6), (3, bytes(12) + b"\x08\0", IP4), (5, b"\0\0\1\xff", IP6)]],
    (IPv6(nh=140), b"\x29\0\x80" + bytes(5), IP6)]
