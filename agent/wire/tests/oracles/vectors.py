#!/usr/bin/env python3
"""Makes vectors.rs with scapy, which shares no code with this crate.

    python3 -m venv DIR && DIR/bin/pip install scapy==2.8.0
    DIR/bin/python agent/wire/tests/oracles/vectors.py > agent/wire/tests/oracles/vectors.rs
"""
import struct
from decimal import Decimal

from scapy.contrib.stamp import (
    ErrorEstimate,
    STAMPSessionReflectorTestUnauthenticated as Reply,
    STAMPSessionSenderTestUnauthenticated as Request,
    STAMPTestTLV as Tlv,
)
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Raw
from scapy.fields import RawVal

NTP = 2_208_988_800
# scapy names the flag bits from the wrong end; RFC 8972 figure 6 has U as the highest.
U = 0x80
FROM_V4, TO_V4 = "192.0.2.1", "198.51.100.7"
FROM_V6, TO_V6 = "2001:db8::1", "2001:db8:1::7"


def show(name, doc, packet):
    octets = bytes(packet)
    print(f"/// {doc}")
    print(f"pub(crate) const {name}: &str = \"\\")
    text = octets.hex()
    for at in range(0, len(text), 64):
        print(f"    {text[at:at + 64]}\\")
    print('";')


print("//! Made by vectors.py with scapy; do not edit.")
print()
ether = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
estimate = ErrorEstimate(S=1, Z=0, scale=5, multiplier=135)
free = ErrorEstimate(S=0, Z=0, scale=11, multiplier=210)

request = Request(
    seq=0x01020304, ts=Decimal(1_800_000_000 + NTP) + Decimal("0.25"), err_estimate=estimate,
    ssid=0xBEEF,
    tlv_objects=[
        Tlv(flags=U, type=241, len=4, value=b"\x00\x01\x02\x03"),
        Tlv(flags=U, type=1, len=0, value=b""),
        Tlv(flags=U, type=1, len=6, value=b"padpad"),
    ],
)
show("STAMP_REQUEST", "Request with a private TLV, an empty and a filled Extra Padding.", request)
reply = Reply(
    seq=0xFFFFFFFF, ts=Decimal(1_800_000_000 + NTP) + Decimal("0.75"), err_estimate=free,
    ssid=0xBEEF, ts_rx=Decimal(1_800_000_000 + NTP) + Decimal("0.5"), seq_sender=0x01020304,
    ts_sender=Decimal(1_800_000_000 + NTP) + Decimal("0.25"), err_estimate_sender=estimate,
    ttl_sender=250,
)
show("STAMP_REPLY", "Reply to it without TLVs.", reply)
era1 = Request(seq=0, ts=Decimal(0), err_estimate=free, ssid=0)
show("STAMP_ERA_1", "Sent at the first instant of NTP era 1, 2036-02-07 06:28:16 UTC.", era1)
ptp = Request(
    seq=7, ts=RawVal(struct.pack(">II", 1_800_000_037, 999_999_999)),
    err_estimate=ErrorEstimate(S=1, Z=1, scale=0, multiplier=1), ssid=1,
)
show("STAMP_PTP", "Request with a PTP timestamp, 37 s ahead of UTC.", ptp)

udp = UDP(sport=40000, dport=862) / Raw(bytes(request))
show("UDP_V4", "The request in UDP over IPv4 over Ethernet.",
     ether / IP(src=FROM_V4, dst=TO_V4, ttl=255, tos=0xB8, flags="DF", id=1) / udp)
show("UDP_V6", "The request in UDP over IPv6 over Ethernet.",
     ether / IPv6(src=FROM_V6, dst=TO_V6, hlim=255, tc=0xB8, fl=0x12345) / udp)
show("UDP_V4_QINQ", "Two VLAN tags, and IPv4 options.",
     ether / Dot1AD(vlan=7) / Dot1Q(vlan=8)
     / IP(src=FROM_V4, dst=TO_V4, ttl=64, options=[b"\x01\x01\x01\x00"]) / udp)
show("UDP_V6_EXTENSIONS", "Hop-by-hop and destination options before UDP.",
     ether / IPv6(src=FROM_V6, dst=TO_V6) / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / udp)
show("TCP_V4", "A TCP segment with options and three octets.",
     ether / IP(src=FROM_V4, dst=TO_V4) / TCP(sport=1, dport=65535, options=[("MSS", 1460)]) / b"abc")
show("ARP", "No IP at all.", ether / ARP())
pieces = fragment(IP(src=FROM_V4, dst=TO_V4, id=9) / udp, fragsize=40)
show("FRAGMENT_FIRST", "First fragment of the request, 40 octets.", ether / pieces[0])
show("FRAGMENT_LATER", "Its second fragment.", ether / pieces[1])
show("FRAGMENT_V6_LATER", "A later IPv6 fragment whose data look like UDP.",
     ether / IPv6(src=FROM_V6, dst=TO_V6) / IPv6ExtHdrFragment(nh=17, offset=5, m=1, id=3) / bytes(udp)[:16])

show("ECHO_REQUEST_V4", "ICMP echo request, from the ICMP header.",
     ICMP(type=8, id=0x1234, seq=0x5678) / b"payload")
show("ECHO_REPLY_V4", "ICMP echo reply.", ICMP(type=0, id=0x1234, seq=0x5678) / b"payload")
v6 = IPv6(src=FROM_V6, dst=TO_V6)
show("ECHO_REQUEST_V6", "ICMPv6 echo request with its IPv6 header.",
     v6 / ICMPv6EchoRequest(id=0x1234, seq=0x5678, data=b"payload"))
show("ECHO_REPLY_V6", "ICMPv6 echo reply with its IPv6 header.",
     v6 / ICMPv6EchoReply(id=0x1234, seq=0x5678, data=b"payload"))

big = IP(src=FROM_V4, dst=TO_V4, flags="DF", id=5) / UDP(sport=40000, dport=862) / Raw(b"x" * 700)
show("BIG_V4", "An IPv4 packet of 728 octets with DF.", big)
show("TOO_BIG_V4", "What 203.0.113.9 says of it with an MTU of 600.",
     IP(src="203.0.113.9", dst=FROM_V4, ttl=64, tos=0xC0, id=0)
     / ICMP(type=3, code=4, nexthopmtu=600) / bytes(big)[:548])
big6 = IPv6(src=FROM_V6, dst=TO_V6) / UDP(sport=40000, dport=862) / Raw(b"x" * 1300)
show("BIG_V6", "An IPv6 packet of 1348 octets.", big6)
show("TOO_BIG_V6", "What 2001:db8:9::9 says of it with an MTU of 1280.",
     IPv6(src="2001:db8:9::9", dst=FROM_V6, hlim=64)
     / ICMPv6PacketTooBig(mtu=1280) / bytes(big6)[:1232])
