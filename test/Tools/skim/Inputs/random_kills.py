"""Kills a command of skim at random moments; resumed, it must end with the same bytes.

    random_kills.py TIMES SEED OUTPUT COMMAND…

The command writes OUTPUT, a file or a package. It runs once undisturbed, then
TIMES times: killed after a random part of that run's time, and resumed.
"""

import hashlib
import pathlib
import random
import shutil
import subprocess
import sys
import time


def digest(path):
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    state = hashlib.sha256()
    for file in files:
        state.update(str(file.relative_to(path)).encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return state.hexdigest()


def run(command):
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)}: status {result.returncode}: {result.stderr}")


def clear(output):
    for path in [output, *output.parent.glob(output.name + ".*")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def main(times, seed, output, *command):
    output, dice = pathlib.Path(output), random.Random(int(seed))
    begin = time.monotonic()
    run(command)
    duration, expected, running = time.monotonic() - begin, digest(output), 0
    for number in range(int(times)):
        clear(output)
        moment = dice.uniform(0, duration)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            running += 1
            process.kill()
            process.wait()
        run([*command, "--resume"])
        if digest(output) != expected:
            sys.exit(f"kill {number + 1}, after {moment:.2f} of {duration:.2f} s: other bytes")
    print(f"{running} of {times} kills met the command at work ({duration:.1f} s)")
    if running < int(times) / 2:
        sys.exit("too few to mean anything")


main(*sys.argv[1:])
