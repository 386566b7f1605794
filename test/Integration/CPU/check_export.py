"""Compiles an export unquantized and compares it with its stored references.

    check_export.py SHARED_MODEL_FOLDER WORK_FOLDER [--target T] [FOLDER_WITH_WEIGHTS]

Logits of every case within 2e-4 on valid positions (16-bit graphs: of PyTorch in
f32 on the rounded weights), in one prefill and token by token; greedy ids equal
up to the first margin below 1e-3.
"""

import argparse
import json
import os
import struct
import subprocess
import sys

import numpy as np

TOLERANCE = 2e-4
MARGIN = 1e-3


def run(*arguments):
    result = subprocess.run(["skim", *arguments], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"skim {' '.join(arguments)}: {result.stderr}")
    return result.stdout


def read_safetensors(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + length)
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__" or name.startswith("__padding__"):
            continue
        begin, end = entry["data_offsets"]
        tensors[name] = data[begin:end].view(np.float32).reshape(entry["shape"])
    return tensors


class Reference:
    """The cases of a reference.npz as sequences without padding: for each, its
    ids and, where known, the logits of its last positions."""

    def __init__(self, folder):
        self.data = np.load(os.path.join(folder, "reference.npz"))
        self.facts = json.load(open(os.path.join(folder, "reference.json")))
        self.sequences = []  # (ids, number of trailing positions checked, expected)
        first = self.rows(0)[0]
        self.add(0, 0, first, len(first))
        batch = []
        if "case1.input_ids" in self.data:
            batch = self.rows(1)
            for row, ids in enumerate(batch):
                self.add(1, row, ids, len(ids))
        history = first
        for case in (2, 3):
            if f"case{case}.input_ids" in self.data:
                ids = list(self.data[f"case{case}.input_ids"][0])
                history = history + ids
                self.add(case, 0, history, len(ids))
        if "case4.input_ids" in self.data:
            for row, ids in enumerate(batch):
                more = list(self.data["case4.input_ids"][row])
                self.add(4, row, ids + more, len(more))

    def rows(self, case):
        ids, valid = self.data[f"case{case}.input_ids"], self.data[f"case{case}.valid"]
        return [list(ids[row][valid[row]]) for row in range(len(ids))]

    def add(self, case, row, ids, count):
        data, key = self.data, f"case{case}."
        valid = data[key + "valid"][row]
        if key + "logits" in data:
            name = key + "logits_torch_fp32" if key + "logits_torch_fp32" in data else key + "logits"
            self.sequences.append((ids, count, ("all", data[name][row][valid])))
        else:
            name = "logits_last_torch_fp32" if key + "logits_last_torch_fp32" in data else "logits_last"
            facts = {"last": data[key + name][row], "argmax": data[key + "argmax"][row][valid]}
            self.sequences.append((ids, count, ("last", facts)))


def compare(label, got, kind, expected):
    if kind == "all":
        worst = float(np.abs(got - expected).max())
    else:
        worst = float(np.abs(got[-1] - expected["last"]).max())
        # Where the two best logits lie close, either may win.
        top = np.sort(got, axis=-1)
        clear = top[:, -1] - top[:, -2] > 0.05
        if not np.array_equal(got.argmax(-1)[clear], expected["argmax"][clear]):
            sys.exit(f"{label}: best tokens differ")
    print(f"{label}: largest difference {worst:.2e}")
    if not worst <= TOLERANCE:
        sys.exit(f"{label}: expected a difference of at most {TOLERANCE}, got {worst}")


def check_greedy(package, facts):
    greedy = facts.get("greedy")
    if not greedy:
        return
    prompt, expected = greedy["prompt"], greedy["continuation"]
    line = run("run", package, "--token-ids", " ".join(map(str, prompt)), "--tokens", str(len(expected)))
    got = [int(word) for word in line.split()]
    same = next((i for i, (a, b) in enumerate(zip(got, expected)) if a != b), len(expected))
    print(f"greedy: {same} of {len(expected)} ids equal, smallest margin {greedy['min_margin']:.2e}")
    if len(got) != len(expected) or (same < len(expected) and greedy["min_margin"] > MARGIN):
        sys.exit(f"greedy ids differ at {same}: expected {expected[same:same + 4]}, got {got[same:same + 4]}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("work")
    parser.add_argument("weights", nargs="?")
    parser.add_argument("--target", default="cpu")
    options = parser.parse_args()
    os.makedirs(options.work, exist_ok=True)
    reference = Reference(options.folder)
    package = os.path.join(options.work, "model.skim")
    run("compile", os.path.join(options.weights or options.folder, "model.onnx"), "-o", package, "--target", options.target)

    ids = os.path.join(options.work, "ids.txt")
    with open(ids, "w") as file:
        for sequence, _, _ in reference.sequences:
            file.write(" ".join(map(str, sequence)) + "\n")
    output = os.path.join(options.work, "logits.safetensors")
    run("logits", package, "--token-ids", ids, "-o", output)
    logits = read_safetensors(output)
    for index, (sequence, count, (kind, expected)) in enumerate(reference.sequences):
        compare(f"sequence {index} ({len(sequence)} tokens, {count} checked)", logits[str(index)][len(sequence) - count :], kind, expected)
    check_greedy(package, reference.facts)


main()
