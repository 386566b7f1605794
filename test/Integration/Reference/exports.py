#!/usr/bin/env python3
"""Raises real exports and compares their logits with the references.

    exports.py [--models DIR] [--build DIR] [--dump DIR] [MODEL …]

For each folder of DIR (default: data/models of $SKIM_SHARED, else of ../shared
beside the repository): imports model.onnx, raises it, runs @forward in the
reference interpreter on every case of reference.npz, each row of a padded batch
as its own sequence without the padding, later cases on the caches of earlier
ones. Logits of valid positions must be within 2e-4, the stored greedy
continuation must be the arg max wherever the margin is above 1e-3, and all
exports of one model must have the same operations. Exits 77 where numpy or the
models are absent.
"""
import argparse
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import numpy as np
except ImportError:
    print("unsupported: the Python package numpy is not installed")
    sys.exit(77)

REPOSITORY = Path(__file__).resolve().parents[3]
ATOL = 2e-4
MARGIN = 1e-3
MODELS = [
    "stories260K-ts17-past", "stories260K-ts17-past-sdpa", "stories260K-ts17-nopast", "stories260K-optimum-past",
    "stories260K-dynamo18-past", "stories260K-dynamo23-past", "stories260K-genai-fp32", "stories260K-genai-int4",
    "tok105-ts17-past", "tok105-genai-fp32", "tok105-genai-int4", "tiny-llama-ts17-past", "tiny-llama-genai-fp32",
    "tiny-llama-ts17-past-fp16", "tiny-mistral-ts17-past", "tiny-mistral-genai092-fp32", "tiny-qwen2-ts17-past",
    "tiny-qwen2-genai-fp32", "tiny-phi3-ts17-past", "tiny-phi3-genai-fp32", "tiny-qwen3-ts17-past",
    "tiny-qwen3-genai-fp32",
]
TYPES = {"float32": "F32", "int32": "I32"}


def write_safetensors(path, arrays):
    header, offset = {}, 0
    for i, array in enumerate(arrays):
        header[str(i)] = {"dtype": TYPES[str(array.dtype)], "shape": array.shape,
                          "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for array in arrays:
            out.write(np.ascontiguousarray(array).tobytes())


def read_safetensors(path):
    data = Path(path).read_bytes()
    size, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + size])
    out = []
    for i in range(sum(key != "__metadata__" for key in header)):
        info = header[str(i)]
        begin, end = info["data_offsets"]
        out.append(np.frombuffer(data[8 + size + begin:8 + size + end], np.float32).reshape(info["shape"]).copy())
    return out


class Model:
    def __init__(self, tools, folder, work):
        self.tools, self.folder, self.work = tools, folder, work
        imported, self.ir = work / "imported.mlir", work / "raised.mlir"
        self.run("skim-translate", "--import-onnx", folder / "model.onnx", "-o", imported)
        self.run("skim-opt", f"--convert-onnx-to-lm=base={folder}", "--skim-verify-encodings", "--skim-verify-cache",
                 imported, "-o", self.ir)
        self.text = self.ir.read_text()
        config = re.search(r"skim\.model = \{([^}]*)\}", self.text).group(1)
        self.config = {key: int(value) for key, value in re.findall(r"(\w+) = (\d+) : i64", config)}

    def run(self, tool, *arguments):
        done = subprocess.run([str(self.tools / tool if tool != "skim-interpret" else
                                   self.tools.parent / "test" / "bin" / tool), *map(str, arguments)],
                              capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{self.folder.name}: {tool} failed:\n{done.stderr[:4000]}")

    def caches(self, batch, capacity):
        shape = (batch, self.config["kv_heads"], capacity, self.config["head_dim"])
        return [np.zeros(shape, np.float32) for _ in range(2 * self.config["layers"])]

    def step(self, sequences, start, caches):
        """Runs new tokens; logits of every valid position of every sequence, and the caches."""
        count = np.array([len(s) for s in sequences], np.int32)
        tokens = np.zeros((len(sequences), max(count)), np.int32)
        for row, sequence in zip(tokens, sequences):
            row[:len(sequence)] = sequence
        rows = np.concatenate([b * tokens.shape[1] + np.arange(n) for b, n in enumerate(count)]).astype(np.int32)
        write_safetensors(self.work / "in.safetensors",
                          [tokens, np.array(start, np.int32), count, rows, *caches])
        self.run("skim-interpret", self.ir, "--base", self.folder, "--inputs", self.work / "in.safetensors", "-o",
                 self.work / "out.safetensors")
        logits, *caches = read_safetensors(self.work / "out.safetensors")
        return np.split(logits, np.cumsum(count)[:-1]), caches


def check(model, folder, reference, capacity=96):
    """The worst difference of logits over all cases."""
    worst, state = 0.0, {}
    for case, source in [(0, None), (1, None), (2, 0), (3, 2), (4, 1)]:
        if f"case{case}.input_ids" not in reference:
            continue
        ids, valid = reference[f"case{case}.input_ids"], reference[f"case{case}.valid"]
        key = f"case{case}.logits_torch_fp32"
        expected = reference[key if key in reference else f"case{case}.logits"]
        start, caches = ([0] * len(ids), model.caches(len(ids), capacity)) if source is None else state[source]
        logits, caches = model.step([row[mask] for row, mask in zip(ids, valid)], start, caches)
        state[case] = [s + len(l) for s, l in zip(start, logits)], caches
        for got, want, mask in zip(logits, expected, valid):
            difference = np.abs(got - want[mask]).max()
            if not difference <= ATOL:
                raise SystemExit(f"{folder.name}: case {case} differs by {difference:.3g}, expected at most {ATOL}")
            worst = max(worst, float(difference))
    return worst


def check_greedy(model, folder, greedy):
    """How many tokens agree; a continuation is fed at once, so that each arg max proves the next token."""
    prompt, continuation = greedy["prompt"], greedy["continuation"]
    ids = prompt + continuation[:-1]
    (logits,), _ = model.step([np.array(ids)], [0], model.caches(1, len(ids)))
    for i, token in enumerate(continuation):
        row = logits[len(prompt) - 1 + i]
        best, second = np.sort(row)[::-1][:2]
        if best - second < MARGIN:
            return i
        if row.argmax() != token:
            raise SystemExit(f"{folder.name}: greedy token {i}: expected {token}, got {row.argmax()}")
    return len(continuation)


def structure(text):
    """Operations and types without what may differ: constants, weights' places, names of nodes."""
    lines = []
    for line in text.splitlines():
        if "arith.constant" in line or "module attributes" in line or "skim.external" in line or "skim.assemble" in line:
            continue
        line = re.sub(r'onnx_name = "[^"]*"|, #skim\.[^>]*>|%[\w#]+|scale = [\d.eE+-]+ : f32', "", line)
        lines.append(re.sub(r"xf16", "xf32", line))
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    shared = Path(os.environ.get("SKIM_SHARED", REPOSITORY.parent / "shared"))
    parser.add_argument("--models", type=Path, default=shared / "data" / "models")
    parser.add_argument("--build", type=Path, default=REPOSITORY / "build")
    parser.add_argument("--dump", type=Path, help="keep the raised IR here")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    if not arguments.models.is_dir():
        print(f"unsupported: no models at {arguments.models}")
        sys.exit(77)
    structures = {}
    for name in arguments.names or MODELS:
        folder = arguments.models / name
        if not folder.is_dir():
            print(f"{name}: absent")
            continue
        with tempfile.TemporaryDirectory() as work:
            model = Model(arguments.build / "bin", folder, Path(work))
            if arguments.dump:
                (arguments.dump / f"{name}.mlir").write_text(model.text)
            worst = check(model, folder, np.load(folder / "reference.npz"))
            tokens = check_greedy(model, folder, json.loads((folder / "reference.json").read_text())["greedy"])
            source = re.match(r"tiny-\w+|\w+", name).group(0)
            first, other = structures.setdefault(source, (name, structure(model.text)))
            if structure(model.text) != other:
                raise SystemExit(f"{name}: raised to other operations than {first}")
        print(f"{name}: logits within {worst:.1e}, {tokens} greedy tokens", flush=True)
    print("all exports agree")


if __name__ == "__main__":
    main()
