#!/usr/bin/env python3
"""A plain STAMP Session-Reflector, and what a bad one does.

Written from RFC 8762 section 4.3 alone (open mode) and RFC 5357 appendix I (TWAMP Light), to
be no relative of netsonde: it knows no TLV (it copies what follows the base packet) and no
SSID but as two octets to copy.

It says "ready" when it listens. It ends on SIGTERM or when its standard input ends, and then
prints one JSON document: the requests it got, the replies it sent, and the sender's sequence
numbers that it treated badly.
"""

import argparse
import json
import os
import random
import select
import signal
import socket
import struct
import sys
import time

SO_TIMESTAMPNS = 35
IP_RECVTTL = 12
NTP_EPOCH = 2_208_988_800
SECOND = 1_000_000_000
BASE = 44
TWAMP_REPLY = 41

FAULTS = (
    "truncate",  # fewer octets than any reply has
    "ssid",  # another session's identifier
    "t1",  # a Session-Sender Timestamp that the sender never sent
    "sequence",  # a Session-Sender Sequence Number that was never sent
    "negative-dwell",  # T3 before T2
    "huge-dwell",  # T3 - T2 longer than the round trip
    "duplicate",  # the same reply twice
    "other-address",  # from --other instead of the address that was probed
    "other-port",  # from another port
    "random",  # random octets in the length of the request
    "random-length",  # random octets, 0 to 200 of them
    "shrink",  # the base packet alone
    "grow",  # twice as many octets
    "tlv-bomb",  # TLVs of length 0 and one longer than the packet, in our private type too
    "report",  # a private TLV with rubbish in it
    "forged-report",  # counters that netsonde's own reflector would send, but absurd ones
    "storm",  # the same reply fifty times
)


def ntp(ns):
    """RFC 8762 section 4.2.1: 32 bits of seconds, 32 bits of fraction."""
    seconds, rest = divmod(ns, SECOND)
    return struct.pack("!II", (seconds + NTP_EPOCH) & 0xFFFFFFFF, (rest << 32) // SECOND)


def ptp(ns):
    """RFC 8186 section 2.1: 32 bits of seconds, 32 bits of nanoseconds."""
    seconds, rest = divmod(ns, SECOND)
    return struct.pack("!II", seconds & 0xFFFFFFFF, rest)


class Reflector:
    def __init__(self, args):
        self.args = args
        self.random = random.Random(args.seed)
        family = socket.AF_INET6 if ":" in args.listen else socket.AF_INET
        self.socket = self.open(family, args.listen, args.port)
        self.other = None
        if args.fault == "other-address":
            self.other = self.open(family, args.other, args.port)
        if args.fault == "other-port":
            self.other = self.open(family, args.listen, 0)
        self.sessions = {}
        self.bad = []
        self.sent = []
        self.requests = self.replies = self.short = 0

    def open(self, family, address, port):
        opened = socket.socket(family, socket.SOCK_DGRAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        opened.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
        else:
            opened.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
        opened.bind((address, port))
        return opened

    def serve_one(self):
        data, controls, _, sender = self.socket.recvmsg(65_535, 256)
        received, ttl = time.time_ns(), 255
        for level, kind, value in controls:
            if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
                seconds, rest = struct.unpack("qq", value)
                received = seconds * SECOND + rest
            elif kind in (socket.IP_TTL, socket.IPV6_HOPLIMIT):
                (ttl,) = struct.unpack("i", value)
        self.requests += 1
        if len(data) < 14:
            self.short += 1
            return
        (sequence,) = struct.unpack("!I", data[:4])
        session = (sender[:2], data[14:16])
        args = self.args
        if self.requests == args.restart_after:
            self.sessions.clear()
        number = self.sessions.get(session, args.first)
        self.sessions[session] = (number + 1) & 0xFFFFFFFF
        if args.stateless:
            number = sequence
        bad = args.fault is not None and sequence % args.every == args.every - 1
        # The sender has to find out first what kind of reflector this is.
        bad = bad and self.replies >= args.good_first
        self.reply(data, sender, number, received, ttl, args.fault if bad else None)
        if bad:
            self.bad.append(sequence)

    def reply(self, data, sender, number, received, ttl, fault):
        twamp = self.args.twamp_light
        ssid = b"\0\0" if twamp or len(data) < 16 else data[14:16]
        # RFC 8186 section 2.3: the Z bit of the request says which format its sender wants.
        stamp = ptp if data[12] & 0x40 else ntp
        estimate = struct.pack("!H", (0x4000 if stamp is ptp else 0) | 0x0001)
        sequence, t1 = data[:4], data[4:12]
        if fault == "ssid":
            ssid = struct.pack("!H", struct.unpack("!H", ssid)[0] ^ 0x5A5A)
        if fault == "t1":
            t1 = bytes([t1[0] ^ 1]) + t1[1:]
        if fault == "sequence":
            sequence = struct.pack("!I", struct.unpack("!I", sequence)[0] ^ 0x80000000)
        after = data[BASE:]
        if fault in ("tlv-bomb", "report", "forged-report"):
            after = self.tlvs(fault, len(after))
        sent = time.time_ns()
        if fault == "negative-dwell":
            sent = received - 1_000_000
        if fault == "huge-dwell":
            sent = received + 10 * SECOND
        reply = (
            struct.pack("!I", number)
            + stamp(sent)
            + estimate
            + ssid
            + stamp(received)
            + sequence
            + t1
            + data[12:14]
            + b"\0\0"
            + bytes([ttl])
        )
        if not twamp:
            reply += b"\0\0\0" + after
        if fault == "truncate":
            reply = reply[: self.random.randrange(0, TWAMP_REPLY)]
        if fault == "random":
            reply = self.random.randbytes(len(data))
        if fault == "random-length":
            reply = self.random.randbytes(self.random.randrange(0, 201))
        if fault == "shrink":
            reply = reply[:BASE]
        if fault == "grow":
            reply += bytes(len(reply))
        source = self.other if fault in ("other-address", "other-port") else self.socket
        for _ in range({"duplicate": 2, "storm": 50}.get(fault, 1)):
            source.sendto(reply, sender)
            self.sent.append(len(reply))
        self.replies += 1

    def tlvs(self, fault, room):
        """What follows the base packet, in the room of what came."""
        if fault == "report":
            rubbish = bytes([0, 241, 0, 32]) + self.random.randbytes(32)
            return rubbish[:room].ljust(room, b"\0")
        if fault == "forged-report":
            forged = bytes([0, 241, 0, 32]) + b"NS\1\0\0\0\0\1" + self.random.randbytes(24)
            return forged[:room].ljust(room, b"\0")
        bomb = bytes([0, 241, 0, 0]) * (room // 8) + bytes([0, 241, 0xFF, 0xFF])
        return bomb[:room].ljust(room, b"\xff")

    def report(self):
        return {
            "requests": self.requests,
            "replies": self.replies,
            "reply_octets": sorted(set(self.sent)),
            "reply_octets_short": sum(1 for octets in self.sent if octets < TWAMP_REPLY),
            "short": self.short,
            "sessions": len(self.sessions),
            "bad": self.bad,
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listen", required=True)
    parser.add_argument("--port", type=int, default=862)
    parser.add_argument("--stateless", action="store_true")
    parser.add_argument("--twamp-light", action="store_true", help="replies of 41 octets")
    parser.add_argument("--first", type=int, default=0, help="number of a session's first reply")
    parser.add_argument("--restart-after", type=int, help="forget all sessions at this request")
    parser.add_argument("--fault", choices=FAULTS)
    parser.add_argument("--every", type=int, default=10, help="bad is every n-th sequence number")
    parser.add_argument("--good-first", type=int, default=4, help="so many replies are good")
    parser.add_argument("--other", help="the address of --fault other-address")
    parser.add_argument("--seed", type=int, default=1)
    reflector = Reflector(parser.parse_args())
    read, write = os.pipe()
    signal.signal(signal.SIGTERM, lambda *_: os.write(write, b"."))
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([reflector.socket, read, sys.stdin], [], [])
        if reflector.socket in ready:
            reflector.serve_one()
        elif ready:
            break
    print(json.dumps(reflector.report()), flush=True)


if __name__ == "__main__":
    main()
