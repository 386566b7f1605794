"""Damages a file again and again and runs a command on it each time.

    mutate.py [--count N] [--seed S] [--output OUT] FILE COMMAND…

The command must end with status 0 or 1 within a minute, never by a signal; with
1 its last line is the contract's error, and OUT (removed before each run), its
work and standard output are empty. FILE is as before afterwards.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys


def mutate(data, random):
    data = bytearray(data)
    for _ in range(random.choice([1, 1, 1, 2, 5])):
        at = random.randrange(max(1, len(data)))
        count = min(random.choice([1, 2, 4, 16, 100]), max(0, len(data) - at))
        kind = random.randrange(7)
        if kind == 0:
            del data[at:]
        elif kind == 1 and data:
            data[at] ^= 1 << random.randrange(8)
        elif kind == 2 and data:
            data[at] = random.choice([0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)])
        elif kind == 3:
            del data[at : at + count]
        elif kind == 4:
            data[at:at] = data[at : at + count]
        elif kind == 5:
            data[at:at] = random.choice([b"\xff" * 9 + b"\x01", b"\x80" * count, b"\0" * count, b"9" * count, b'"', b"}", b"[" * 10 * count])
        else:
            data[at : at + count] = bytes(random.randrange(256) for _ in range(count))
    return bytes(data)


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.remove(path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output")
    parser.add_argument("file")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    with open(options.file, "rb") as file:
        original = file.read()
    counts = {0: 0, 1: 0}
    try:
        for i in range(options.count):
            with open(options.file, "wb") as file:
                file.write(mutate(original, random.Random(options.seed * 1000003 + i)))
            if options.output:
                remove(options.output)
            problem = None
            try:
                result = subprocess.run(options.command, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
                lines = result.stderr.decode(errors="backslashreplace").splitlines()
                if result.returncode not in counts:
                    problem = f"status {result.returncode}: {lines[-3:]}"
                else:
                    counts[result.returncode] += 1
                if result.returncode == 1:
                    if not lines or not lines[-1].startswith("skim: error: "):
                        problem = f"no error said: {lines[-3:]}"
                    if any("Stack dump" in line or "LLVM ERROR" in line for line in lines):
                        problem = f"internal error: {lines}"
                    if options.output and (os.path.lexists(options.output) or os.path.lexists(options.output + ".work")):
                        problem = f"{options.output} is half-written"
            except subprocess.TimeoutExpired:
                problem = "more than 60 seconds"
            if problem:
                keep = f"{options.file}.{options.seed}.{i}"
                shutil.copyfile(options.file, keep)
                sys.exit(f"mutation {i} of {options.file} (kept as {keep}): {problem}")
    finally:
        with open(options.file, "wb") as file:
            file.write(original)
    print(f"{options.file}: {counts[0]} fine, {counts[1]} refused")


main()
