"""A command of skim that must fail as the contract says.

    fails.py [--status S] [--in FOLDER] PATTERN COMMAND…

Ends with status S (default 1), nothing on standard output, the last line of
standard error is `skim: error: ` and PATTERN (a regular expression, the whole
line), every other line is such an error too or progress; no file appears,
vanishes or changes in FOLDER (default: the current folder).
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys


def snapshot(folder):
    """Every path, with what a file holds or a link says."""
    state = {}
    for root, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(root, name)
            if os.path.islink(path):
                state[path] = os.readlink(path)
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    state[path] = hashlib.sha256(file.read()).hexdigest()
            else:
                state[path] = "folder"
    return state


parser = argparse.ArgumentParser()
parser.add_argument("--status", type=int, default=1)
parser.add_argument("--in", dest="folder", default=".")
parser.add_argument("pattern")
parser.add_argument("command", nargs=argparse.REMAINDER)
options = parser.parse_args()

before = snapshot(options.folder)
result = subprocess.run(options.command, capture_output=True, stdin=subprocess.DEVNULL, timeout=300)
stderr = result.stderr.decode(errors="backslashreplace")
lines = stderr.splitlines()
problems = []
if result.returncode != options.status:
    problems.append(f"expected status {options.status}, got {result.returncode}")
if result.stdout:
    problems.append(f"expected nothing on standard output, got {result.stdout[:200]}")
if not lines or not re.fullmatch("skim: error: " + options.pattern, lines[-1]):
    problems.append(f"expected the last line 'skim: error: {options.pattern}', got {lines[-1:]}")
problems += [f"unexpected line: {line}" for line in lines if not line.startswith(("skim: error: ", "["))]
after = snapshot(options.folder)
for path in sorted(set(before) | set(after)):
    if before.get(path) != after.get(path):
        problems.append(f"{path} {'changed' if path in before and path in after else 'vanished' if path in before else 'appeared'}")
if problems:
    print(" ".join(options.command), *problems, "standard error:", stderr, sep="\n  ")
    sys.exit(1)
