#!/usr/bin/env python3
"""Writes table.txt: what tshark says of every public capture.

One line a file: frames, the sums of captured and original lengths, the times of the first
and the last frame in nanoseconds, and FNV-1a (64 bits) over one line
"TIME CAPTURED ORIGINAL ENCAPSULATION" a frame.

    ./table.py FOLDER > table.txt
"""
import pathlib
import subprocess
import sys

FIELDS = ["frame.time_epoch", "frame.cap_len", "frame.len", "frame.encap_type"]


def nanoseconds(text):
    seconds, fraction = text.split(".")
    return int(seconds) * 10**9 + int(fraction.ljust(9, "0"))


def main():
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.pcap*")):
        command = ["tshark", "-n", "-r", str(path), "-T", "fields"]
        for field in FIELDS:
            command += ["-e", field]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        digest, captured, original, times = 0xCBF29CE484222325, 0, 0, []
        for line in run.stdout.splitlines():
            epoch, cap_len, length, encapsulation = line.split("\t")
            times.append(nanoseconds(epoch))
            captured += int(cap_len)
            original += int(length)
            for octet in f"{times[-1]} {cap_len} {length} {encapsulation}\n".encode():
                digest = (digest ^ octet) * 0x100000001B3 % 2**64
        print(path.name, len(times), captured, original, times[0], times[-1], f"{digest:016x}")


main()
