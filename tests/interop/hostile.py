#!/usr/bin/env python3
"""Sends a STAMP reflector what it should refuse, or answer with care.

Each case is named on the command line; the output is one JSON document: how many datagrams
each case sent. Before the first and after the last an ordinary request is sent and its answer
awaited, in one session, so that everything between was taken off the reflector's socket.
"""

import argparse
import json
import random
import socket
import struct
import time

NTP_EPOCH = 2_208_988_800
BASE = 44
PORT = 862


def request(sequence, length=BASE, ssid=0, after=b"", estimate=0x0001):
    now = time.time_ns()
    seconds, rest = divmod(now, 1_000_000_000)
    head = struct.pack(
        "!IIIHH",
        sequence,
        (seconds + NTP_EPOCH) & 0xFFFFFFFF,
        (rest << 32) // 1_000_000_000,
        estimate,
        ssid,
    )
    return (head.ljust(BASE, b"\0") + after).ljust(length, b"\0")[: length + len(after)]


class Hostile:
    def __init__(self, args):
        self.to, self.source = args.to, args.source
        self.other_source = args.other_source
        self.random = random.Random(args.seed)
        self.v6 = ":" in self.to
        self.family = socket.AF_INET6 if self.v6 else socket.AF_INET
        self.good = self.bind()
        self.good.settimeout(5)
        self.exchanges = 0

    def bind(self, port=0, source=None):
        opened = socket.socket(self.family, socket.SOCK_DGRAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        opened.bind((source or self.source, port))
        return opened

    def send(self, packets, **where):
        """Each from one new socket; answers go unread."""
        opened = self.bind(**where)
        count = 0
        for packet in packets:
            opened.sendto(packet, (self.to, PORT))
            count += 1
            if count % 50 == 0:
                time.sleep(0.002)
        return count

    def raw(self, packets):
        """IPv4 with any source: (source address, source port, payload, checksum)."""
        opened = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        to = socket.inet_aton(self.to)
        count = 0
        for source, port, payload, checksum in packets:
            udp = struct.pack("!HHHH", port, PORT, 8 + len(payload), checksum) + payload
            source = socket.inet_aton(source)
            ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 255, 17, 0, source, to)
            opened.sendto(ip + udp, (self.to, 0))
            count += 1
            if count % 50 == 0:
                time.sleep(0.002)
        return count

    def exchange(self):
        for _ in range(3):
            packet = request(self.exchanges, ssid=0x600D)
            self.exchanges += 1
            self.good.sendto(packet, (self.to, PORT))
            try:
                while True:
                    reply = self.good.recv(65_535)
                    if reply[28:36] == packet[4:12]:
                        assert len(reply) == len(packet), "a reply of another size"
                        return
            except socket.timeout:
                pass
        raise SystemExit("no answer to an ordinary request")

    # The cases.

    def tiny(self):
        return self.send([self.random.randbytes(n) for n in range(14)])

    def short(self):
        return self.send([request(n, n) for n in range(14, BASE)])

    def sizes(self):
        """Everything that fits one packet, octet by octet at first."""
        largest = 9001 - (48 if self.v6 else 28)
        lengths = [*range(BASE, 200), 1472, 1473, 4096, 8192, largest - 1, largest]
        return self.send([request(n, length) for n, length in enumerate(lengths)])

    def above_the_link(self):
        """In fragments; the reply may not be."""
        lengths = [9001, 9100, 9200, 9216]
        return self.send([request(n, length) for n, length in enumerate(lengths)])

    def too_long(self):
        return self.send([request(n, length) for n, length in enumerate([9217, 20_000, 65_000])])

    def noise(self):
        lengths = [self.random.randrange(BASE, 400) for _ in range(1_000)]
        return self.send([self.random.randbytes(length) for length in lengths])

    def tlv_bombs(self):
        """Whole, if odd."""
        kinds = [0, 1, 2, 4, 8, 12, 240, 241, 254, 255]
        after = [bytes([flags, kind, 0, 0]) * 2_000 for flags in (0, 0x80, 0xFF) for kind in kinds]
        after += [bytes([0x80, 241, 0, 4]) + b"NS\1\1" + bytes([0x80, 1, 0, 0]) * 500]
        after += [(bytes([0x80, 241, 0, 32]) + b"NS\1\1" + bytes(28)) * 200]
        # The request for a bigger answer, or for many of them (type 12).
        asks = struct.pack("!HHI", 9000, 1000, 1) + bytes(4)
        after += [bytes([0x80, 12, 0, len(asks)]) + asks]
        return self.send([request(n, after=tlvs) for n, tlvs in enumerate(after)])

    def broken_tlvs(self):
        """The last one is longer than the packet."""
        after = [bytes([0x80, kind, 0xFF, 0xFF]) + bytes(16) for kind in (0, 1, 12, 241, 255)]
        after += [bytes([0x80, 1, 0, 0]) * 1_000 + bytes([0x80, 241, 0, 32]) + bytes(31)]
        return self.send([request(n, after=tlvs) for n, tlvs in enumerate(after)])

    def from_862(self):
        return self.send([request(n) for n in range(50)], port=PORT)

    def not_allowed(self):
        return self.send([request(n) for n in range(50)], source=self.other_source)

    def replayed(self):
        return self.send([request(7, ssid=9)] * 200)

    def backwards(self):
        """Numbers that jump over the whole range, and fall."""
        numbers = [0xFFFFFFFF, 0, 0x80000000, 0x7FFFFFFF, 1, 0xFFFFFFFE] * 50
        return self.send([request(n, ssid=9) for n in numbers])

    def sessions(self):
        """A session each: 300 identifiers from one port."""
        return self.send([request(0, ssid=n) for n in range(1, 301)])

    def burst(self):
        return self.send([request(n, ssid=5) for n in range(400)])

    def spoofed(self):
        hosts = [f"10.0.0.{n}" for n in range(20, 60)]
        return self.raw((host, 40_000 + n, request(n), 0) for host in hosts for n in range(5))

    def spoofed_ports(self):
        """As from another reflector, and from no port at all."""
        return self.raw(("10.0.0.77", port, request(1), 0) for port in (PORT, 0) for _ in range(20))

    def unroutable(self):
        """The kernel has no way back."""
        return self.raw((f"192.0.2.{n}", 40_000, request(1), 0) for n in range(1, 21))

    def martians(self):
        """The kernel drops these itself."""
        hosts = [self.to, "127.0.0.1", "224.0.0.1", "255.255.255.255"]
        return self.raw((host, 40_000, request(1), 0) for host in hosts for _ in range(5))

    def from_broadcast(self):
        """The kernel takes these, but does not answer to such an address."""
        return self.raw(("10.0.0.255", 40_000, request(1), 0) for _ in range(20))

    def bad_checksums(self):
        return self.raw((self.source, 41_000, request(n), 0xDEAD) for n in range(20))

    def to_everybody(self):
        return self.to_each(["ff02::1%eth0"] if self.v6 else ["255.255.255.255", "224.0.0.1"])

    def to_subnet(self):
        return self.to_each(["10.0.0.255"])

    def to_each(self, hosts):
        opened, count = self.bind(), 0
        if not self.v6:
            source = socket.inet_aton(self.source)
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, source)
        for host in hosts:
            address = socket.getaddrinfo(host, PORT, self.family, socket.SOCK_DGRAM)[0][4]
            for n in range(10):
                opened.sendto(request(n), address)
                count += 1
        return count


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--other-source")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("cases", nargs="+")
    args = parser.parse_args()
    hostile = Hostile(args)
    hostile.exchange()
    sent = {}
    for case in args.cases:
        sent[case] = getattr(hostile, case)()
        # One case after the other, however small the reflector's buffer.
        hostile.exchange()
    sent["exchanges"] = hostile.exchanges
    print(json.dumps(sent))


if __name__ == "__main__":
    main()
