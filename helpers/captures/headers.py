"""Headers as their standards draw them, as numpy dtypes: `>` is network byte order, `<` the other one."""

import numpy as np

# Link layers

# IEEE 802.3
ETHERNET = np.dtype([("destination", "u1", 6), ("source", "u1", 6), ("type", ">u2")])
# IEEE 802.1Q, 802.1ad
VLAN_TAG = np.dtype([("control", ">u2"), ("type", ">u2")])
# Cisco's VN-Tag, before IEEE 802.1BR; IEEE 802.1BR's E-TAG; IEEE 802.1ah's I-TAG, which an Ethernet frame follows
VN_TAG = np.dtype([("control", ">u4"), ("type", ">u2")])
E_TAG = np.dtype([("control", "V6"), ("type", ">u2")])
SERVICE_TAG = np.dtype([("control", ">u4")])
# IEEE 802.2 with SNAP, RFC 1042
LOGICAL_LINK = np.dtype([("access_points", ">u2"), ("control", "u1"), ("organisation", "u1", 3), ("type", ">u2")])
# IEEE 802.5
TOKEN_RING = np.dtype([("access", "u1"), ("control", "u1"), ("destination", "u1", 6), ("source", "u1", 6),
                       ("routing", "u1")])
# radiotap.org
RADIOTAP = np.dtype([("version", "u1"), ("pad", "u1"), ("length", "<u2")])
# IEEE 802.11, its frame control
WIRELESS = np.dtype([("control", "<u2")])
# LINKTYPE_C_HDLC
CISCO_HDLC = np.dtype([("address", "u1"), ("control", "u1"), ("type", ">u2")])
# RFC 1661, 1662
PPP = np.dtype([("protocol", ">u2")])
# LINKTYPE_PPP_WITH_DIR
PPP_DIRECTION = np.dtype([("direction", "u1")])
# RFC 2516
PPPOE = np.dtype([("version", "u1"), ("code", "u1"), ("session", ">u2"), ("length", ">u2")])
# LINKTYPE_IPOIB: IP over InfiniBand, RFC 4391
INFINIBAND = np.dtype([("resource", "V40"), ("type", ">u2"), ("reserved", ">u2")])
# Cisco FabricPath
FABRIC_PATH = np.dtype([("tag", ">u2")])
# LINKTYPE_NFLOG: a header, then fields
NFLOG = np.dtype([("family", "u1"), ("version", "u1"), ("resource", ">u2")])
NFLOG_FIELD = np.dtype([("length", "<u2"), ("type", "<u2")])
# LINKTYPE_PPI
PER_PACKET = np.dtype([("version", "u1"), ("flags", "u1"), ("length", "<u2"), ("link", "<u4")])
# LINKTYPE_LINUX_SLL
LINUX_COOKED = np.dtype([("packet_type", ">u2"), ("hardware", ">u2"), ("address_length", ">u2"), ("address", "u1", 8),
                         ("type", ">u2")])
# LINKTYPE_LINUX_SLL2
LINUX_COOKED_2 = np.dtype([("type", ">u2"), ("reserved", ">u2"), ("interface", ">u4"), ("hardware", ">u2"),
                           ("packet_type", "u1"), ("address_length", "u1"), ("address", "u1", 8)])
# LINKTYPE_NULL, LINKTYPE_LOOP
BSD_LOOPBACK = np.dtype([("family", ">u4")])

# Between the link and IP, and between IP and the IP that it carries

# RFC 3032, and the first byte of what follows
MPLS = np.dtype([("label", ">u2"), ("bottom", "u1"), ("ttl", "u1"), ("version_ihl", "u1")])
# RFC 2784, 2890, 2637 (PPTP)
GRE = np.dtype([("flags_version", ">u2"), ("type", ">u2")])
# draft-foschiano-erspan
ERSPAN = np.dtype([("version_vlan", ">u2"), ("session", ">u2"), ("index", ">u4")])
# RFC 3378
ETHER_IP = np.dtype([("version", ">u2")])
# RFC 7348; with a next protocol: draft-ietf-nvo3-vxlan-gpe
VXLAN = np.dtype([("flags", "u1"), ("reserved", "V2"), ("next", "u1"), ("network", ">u4")])
# RFC 8926
GENEVE = np.dtype([("version_options", "u1"), ("flags", "u1"), ("type", ">u2"), ("network", ">u4")])
# 3GPP TS 29.281, and the first byte of what follows
GTP = np.dtype([("flags", "u1"), ("type", "u1"), ("length", ">u2"), ("endpoint", ">u4"), ("version_ihl", "u1")])
GTP_EXTENSION = np.dtype([("length", "u1")])
# RFC 2661
L2TP = np.dtype([("flags_version", ">u2"), ("length", ">u2"), ("session", ">u2")])
# RFC 4380
TEREDO = np.dtype([("kind", ">u2"), ("client", "u1"), ("authentication", "u1")])

# Internet and transport

# The first byte of an IP header
VERSION = np.dtype([("version_ihl", "u1")])
# RFC 791
IPV4_ADDRESSES = np.dtype([("src", ">u4"), ("dst", ">u4")])
IPV4 = np.dtype([("version_ihl", "u1"), ("dscp_ecn", "u1"), ("total_length", ">u2"), ("identification", ">u2"),
                 ("flags_offset", ">u2"), ("ttl", "u1"), ("protocol", "u1"), ("checksum", ">u2"),
                 ("addresses", IPV4_ADDRESSES)])
# RFC 8200
IPV6_ADDRESSES = np.dtype([("src", "V16"), ("dst", "V16")])
IPV6 = np.dtype([("version_class_flow", ">u4"), ("payload_length", ">u2"), ("next_header", "u1"),
                 ("hop_limit", "u1"), ("addresses", IPV6_ADDRESSES)])
IPV6_EXTENSION = np.dtype([("next_header", "u1"), ("length", "u1"), ("offset_flags", ">u2")])
# RFC 768
UDP = np.dtype([("sport", ">u2"), ("dport", ">u2"), ("length", ">u2"), ("checksum", ">u2")])
# RFC 9293, as far as the window
TCP = np.dtype([("sport", ">u2"), ("dport", ">u2"), ("seq", ">u4"), ("ack", ">u4"), ("offset_flags", ">u2"),
                ("window", ">u2")])
TCP_LENGTH = 20     # bytes, without options

# The headers of most frames of most captures, one after the other
ETHERNET_IPV4_TCP = np.dtype([("ethernet", ETHERNET), ("ip", IPV4), ("tcp", TCP)])
