"""Kills a command of skim at its progress, resumes it, kills it again …

    kill_and_resume.py LINES COMMAND…

LINES: `3,7`: the first run is killed once it has said three lines, the second
(with --resume) seven. A last run with --resume must end well.
"""

import subprocess
import sys


def main(lines, *command):
    for number, count in enumerate(map(int, lines.split(","))):
        extra = ["--resume"] if number else []
        process = subprocess.Popen([*command, *extra], stderr=subprocess.PIPE, text=True)
        for _ in range(count):
            if not process.stderr.readline():
                sys.exit("the run ended before it was killed")
        process.kill()
        process.wait()
    sys.exit(subprocess.run([*command, "--resume"]).returncode)


main(*sys.argv[1:])
