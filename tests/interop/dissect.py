#!/usr/bin/env python3
"""Reads STAMP packets from a capture with scapy's layers and prints a JSON line for each.

Everything here is scapy's reading (contrib.stamp, RFC 8762 and RFC 8972) but for the last
step of a timestamp, from the wire's 64 bits to nanoseconds since 1970. Checksums are
computed again by scapy and compared.
"""

import json
import logging
import sys

logging.getLogger("scapy.runtime").setLevel(logging.ERROR)

from scapy.contrib import stamp  # noqa: E402
from scapy.layers.inet import IP, UDP  # noqa: E402
from scapy.layers.inet6 import IPv6  # noqa: E402
from scapy.packet import Raw  # noqa: E402
from scapy.utils import PcapNgReader  # noqa: E402

NTP_EPOCH = 2_208_988_800
SECOND = 1_000_000_000


def nanoseconds(value, ptp):
    seconds, rest = value >> 32, value & 0xFFFFFFFF
    if ptp:
        return seconds * SECOND + rest
    return (seconds - NTP_EPOCH) * SECOND + round(rest * SECOND / (1 << 32))


def again(packet):
    """Whether the checksums are what scapy would write."""
    ip = packet.getlayer(IP) or packet.getlayer(IPv6)
    rebuilt = ip.copy()
    if IP in rebuilt:
        del rebuilt[IP].chksum
    del rebuilt[UDP].chksum
    return bytes(rebuilt) == bytes(ip)


def estimate(field):
    return {"S": field.S, "Z": field.Z, "scale": field.scale, "multiplier": field.multiplier}


def stamps(layer, name, ptp):
    value = layer.fields[name]
    return {"raw": f"{int(value):016x}", "ns": nanoseconds(int(value), ptp)}


def describe(packet, at_ns):
    ip, udp = packet.getlayer(IP) or packet.getlayer(IPv6), packet[UDP]
    v4 = IP in packet
    # The port says the direction; scapy would take a session between two ports 862 wrong.
    reply = udp.sport == 862
    kind = stamp.STAMPSessionReflectorTestUnauthenticated
    if not reply:
        kind = stamp.STAMPSessionSenderTestUnauthenticated
    payload = bytes(udp.payload)
    layer = kind(payload)
    ptp = bool(layer.err_estimate.Z)
    out = {
        "at_ns": at_ns,
        "reply": reply,
        "source": ip.src,
        "destination": ip.dst,
        "ports": [udp.sport, udp.dport],
        "ip_bytes": ip.len if v4 else ip.plen + 40,
        "payload_bytes": len(payload),
        "ttl": ip.ttl if v4 else ip.hlim,
        "tos": ip.tos if v4 else ip.tc,
        "dont_fragment": "DF" in str(ip.flags) if v4 else None,
        "checksums": again(packet),
        "seq": layer.seq,
        "timestamp": stamps(layer, "ts", ptp),
        "estimate": estimate(layer.err_estimate),
        "ssid": layer.ssid,
        "tlvs": [
            {
                "flags": int(tlv.flags),
                "type": tlv.type,
                "length": tlv.len,
                "whole": len(tlv.value) == tlv.len,
                "value": bytes(tlv.value).hex(),
            }
            for tlv in layer.tlv_objects
        ],
        "left_over": len(layer[Raw].load) if Raw in layer else 0,
    }
    if reply:
        sender_ptp = bool(layer.err_estimate_sender.Z)
        out |= {
            "mbz": int(layer.mbz1) + int(layer.mbz2),
            "receive_timestamp": stamps(layer, "ts_rx", ptp),
            "sender_seq": layer.seq_sender,
            "sender_timestamp": stamps(layer, "ts_sender", sender_ptp),
            "sender_estimate": estimate(layer.err_estimate_sender),
            "sender_ttl": layer.ttl_sender,
        }
    else:
        out["mbz"] = int(layer.mbz)
    return out


def main():
    with PcapNgReader(sys.argv[1]) as reader:
        for packet in reader:
            if UDP not in packet or 862 not in (packet[UDP].sport, packet[UDP].dport):
                continue
            # scapy keeps the decimal digits of the capture's nanoseconds.
            at_ns = int(packet.time * SECOND)
            print(json.dumps(describe(packet, at_ns)))


if __name__ == "__main__":
    main()
