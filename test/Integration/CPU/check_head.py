"""The head in the budget: check_head.py SHARED_DATA FOLDER."""

import json
import os
import subprocess
import sys

DATA, FOLDER = sys.argv[1:3]
MODEL = os.path.join(DATA, "models/stories260K-ts17-past/model.onnx")


def skim(*arguments):
    result = subprocess.run(["skim", *map(str, arguments)], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"skim {' '.join(map(str, arguments))}: status {result.returncode}: {result.stderr}")
    return result.stdout


os.makedirs(FOLDER)
os.chdir(FOLDER)
with open(os.path.join(DATA, "reference/stories260K-statistics.ids.txt")) as file:
    lines = file.readlines()
for name, part in (("seen", lines[:-2]), ("other", lines[-2:])):
    with open(name, "w") as file:
        file.writelines(part)
skim("calibrate", MODEL, "--token-ids", "seen", "-o", "stats")
skim("compile", MODEL, "-o", "base.skim")
for size in (110000, 130000, 160000):
    skim("quantize", MODEL, "-o", "open.skim", "--size", size, "--stats", "stats")
    skim("quantize", MODEL, "-o", "eight.skim", "--size", size, "--stats", "stats", "--quantize-head", "w8")
    for name in ("open", "eight"):
        total = json.load(open(name + ".skim/manifest.json"))["bytes"]["total"]
        if not 0.99 * size < total <= size:
            sys.exit(f"{name}: {total} bytes for a budget of {size}")
    answer = json.loads(skim("eval", "open.skim", "eight.skim", "--token-ids", "other", "--against", "base.skim", "--json"))
    found, eight = (package["kl_mean"] for package in answer["packages"])
    print(f"{size} bytes: KL {found:.4f}, with a head of 8 bits {eight:.4f}")
    if not found < 0.85 * eight:
        sys.exit("the head in the budget is no better than one of 8 bits")
