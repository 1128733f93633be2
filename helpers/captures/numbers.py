"""The numbers that headers carry: TCP's flags and options, EtherTypes, IP protocols, ports, link types."""

from enum import IntEnum, auto

# TCP's flags (RFC 9293 section 3.1), lowest bit first; N: the nonce of RFC 3540
FLAG_LETTERS = "FSRPAUECN"
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
ALL_FLAGS = 0x1FF

# TCP's options (RFC 9293 section 3.2), and the largest shift of the window scale (RFC 7323 section 2.3)
END_OF_OPTIONS, NO_OPERATION, WINDOW_SCALE = 0, 1, 3
LARGEST_SCALE = 14

# A type field of 1,500 or less is the length of an IEEE 802.3 frame (IEEE 802.3 section 3.2.6)
LARGEST_802_3_LENGTH = 1500

# Bytes that IPv4 or what follows IPv6's header can have (RFC 791 section 3.1, RFC 8200 section 3)
LARGEST_PACKET = 65535


class Type(IntEnum):
    """Which header comes next: an EtherType, or a number of ours, beyond 16 bits, for a header that has none."""

    NOT_IP = 0
    NOT_IP_802_3 = 1        # a frame of IEEE 802.3 that holds something else
    NOT_IP_802_11 = 2       # a frame of IEEE 802.11 that holds something else, or is encrypted
    LOGICAL_LINK = 4        # Linux's ETH_P_802_2, in its cooked headers
    IPV4 = 0x0800
    ARP = 0x0806
    VLAN = 0x8100           # IEEE 802.1Q
    ETHERNET = 0x6558       # transparent Ethernet bridging, RFC 1701
    IPV6 = 0x86DD
    WCCP = 0x883E           # what a router redirects to a cache, in GRE
    PPP = 0x880B
    MPLS = 0x8847
    MPLS_UPSTREAM = 0x8848  # RFC 5332
    PPPOE = 0x8864
    SERVICE_VLAN = 0x88A8   # IEEE 802.1ad
    ERSPAN_1_2 = 0x88BE
    LLDP = 0x88CC
    PROVIDER_BACKBONE = 0x88E7  # IEEE 802.1ah
    FABRIC_PATH = 0x8903
    VN_TAG = 0x8926
    E_TAG = 0x893F          # IEEE 802.1BR
    OLD_VLAN = 0x9100       # two tags, before IEEE 802.1ad
    ERSPAN_3 = 0x22EB
    CISCO_HDLC = 1 << 16
    RADIOTAP = auto()
    WIRELESS = auto()
    TOKEN_RING = auto()
    PPP_DIRECTION = auto()
    INFINIBAND = auto()
    NFLOG = auto()
    NFLOG_FIELD = auto()
    PER_PACKET = auto()
    RAW_IP = auto()
    BSD_LOOPBACK = auto()
    LINUX_COOKED = auto()
    LINUX_COOKED_2 = auto()
    GRE = auto()
    GTP = auto()
    GTP_EXTENSION = auto()
    L2TP = auto()
    TEREDO = auto()
    VXLAN = auto()
    VXLAN_GPE = auto()
    GENEVE = auto()
    ETHER_IP = auto()
    OTHER_PPP = 1 << 17     # ... plus the protocol that PPP names, where it is none of these


ETHERNET_LINK, RAW_IP_LINK = 1, 101
LINKS = {                   # link types of capture files: tcpdump.org/linktypes.html
    0: Type.BSD_LOOPBACK,   # NULL
    ETHERNET_LINK: Type.ETHERNET,
    6: Type.TOKEN_RING,
    9: Type.PPP,
    12: Type.RAW_IP,        # DLT_RAW as most systems number it
    14: Type.RAW_IP,        # DLT_RAW of OpenBSD
    50: Type.PPP,           # PPP_HDLC
    51: Type.PPPOE,         # PPP_ETHER
    RAW_IP_LINK: Type.RAW_IP,
    104: Type.CISCO_HDLC,
    105: Type.WIRELESS,
    108: Type.BSD_LOOPBACK,     # LOOP
    113: Type.LINUX_COOKED,
    127: Type.RADIOTAP,
    192: Type.PER_PACKET,
    204: Type.PPP_DIRECTION,
    228: Type.RAW_IP,       # IPV4
    229: Type.RAW_IP,       # IPV6
    239: Type.NFLOG,
    242: Type.INFINIBAND,
    276: Type.LINUX_COOKED_2}

FAMILIES = {                # address families in BSD's loopback header
    2: Type.IPV4,           # AF_INET
    10: Type.IPV6,          # AF_INET6 of Linux
    24: Type.IPV6,          # ... of NetBSD and OpenBSD
    28: Type.IPV6,          # ... of FreeBSD
    30: Type.IPV6}          # ... of macOS

PPP_PROTOCOLS = {           # iana.org/assignments/ppp-numbers
    0x0021: Type.IPV4,
    0x0057: Type.IPV6,
    0x0281: Type.MPLS,
    0x0283: Type.MPLS_UPSTREAM}

NFLOG_PAYLOAD = 9           # the field of a netfilter log that holds the packet (NFULA_PAYLOAD)

TCP_PROTOCOL, UDP_PROTOCOL, FRAGMENT_HEADER, AUTHENTICATION_HEADER = 6, 17, 44, 51
PROTOCOL_NAMES = {1: "ICMP", 2: "IGMP", UDP_PROTOCOL: "UDP", 58: "ICMPv6", 132: "SCTP"}

TUNNELS = {                 # IP protocols that carry another packet
    4: Type.IPV4,           # RFC 2003
    41: Type.IPV6,          # RFC 2473, RFC 4213
    47: Type.GRE,           # RFC 2784
    97: Type.ETHER_IP,      # RFC 3378
    137: Type.MPLS}         # RFC 4023

UDP_TUNNELS = {             # UDP ports behind which another packet is carried
    1701: Type.L2TP,        # RFC 2661
    2152: Type.GTP,         # 3GPP TS 29.281
    3544: Type.TEREDO,      # RFC 4380
    4754: Type.GRE,         # RFC 8086
    4789: Type.VXLAN,       # RFC 7348
    4790: Type.VXLAN_GPE,
    6081: Type.GENEVE,      # RFC 8926
    6635: Type.MPLS}        # RFC 7510

VXLAN_GPE_PROTOCOLS = {     # draft-ietf-nvo3-vxlan-gpe section 3.1
    1: Type.IPV4,
    2: Type.IPV6,
    3: Type.ETHERNET,
    5: Type.MPLS}

EXTENSION_HEADERS = (       # headers that may stand between IP and TCP
    0,                      # hop-by-hop options, RFC 8200 section 4.3
    43,                     # routing, RFC 8200 section 4.4
    FRAGMENT_HEADER,        # RFC 8200 section 4.5
    AUTHENTICATION_HEADER,  # RFC 4302
    60,                     # destination options, RFC 8200 section 4.6
    135,                    # mobility, RFC 6275
    140)                    # Shim6, RFC 5533
