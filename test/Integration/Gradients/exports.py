#!/usr/bin/env python3
"""Differentiates real exports and compares with differences of the reference.

    exports.py [--models DIR] [--build DIR] [MODEL …]

Raises each model, turns its activations into f64 (weights stay as they are in
its file), differentiates @forward with respect to all caches, and compares
<v, vjp(w)> along a random direction v of the caches, with random w on all
results, with central differences in the reference interpreter. The new tokens
come behind three cached ones, so that the caches reach the logits through every
operation of the model. With `observe`, every layer must be there. Exits 77 where
numpy or the models are absent.
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
MODELS = ["stories260K-ts17-past", "stories260K-genai-int4", "tiny-llama-ts17-past-fp16", "tiny-mistral-ts17-past",
          "tiny-qwen3-ts17-past", "tiny-phi3-genai-fp32"]
TYPES = {"float64": "F64", "int32": "I32"}
CACHED, NEW = 3, 2


def write_safetensors(path, arrays):
    header, offset = {}, 0
    for i, array in enumerate(arrays):
        header[str(i)] = {"dtype": TYPES[str(array.dtype)], "shape": array.shape,
                          "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(a.tobytes() for a in arrays))


def read_safetensors(path):
    data = path.read_bytes()
    size, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + size])
    spans = [header[str(i)] for i in range(sum(key != "__metadata__" for key in header))]
    return [np.frombuffer(data[8 + size + begin:8 + size + end], np.float64).reshape(span["shape"])
            for span in spans for begin, end in [span["data_offsets"]]]


def in_double(text):
    """The IR with activations of f64; weights, and what they are assembled of, keep their types."""
    stored, lines = {}, []
    components = {name for line in text.splitlines() if " = skim.assemble " in line
                  for name in re.findall(r"%\w+", line)[1:]}
    for line in text.splitlines():
        name = re.match(r"\s*(%\w+) = (skim\.external|skim\.assemble|)", line)
        if name and (name[2] or name[1] in components):
            stored[name[1]] = re.match(r".* (tensor<.*>)$", line)[1]
            lines.append(line)
            continue
        line = re.sub(r'dense<"0x(\w*)">( : tensor<[^>]*xf32>)', lambda hexadecimal: 'dense<"0x%s">%s' % (
            np.frombuffer(bytes.fromhex(hexadecimal[1]), np.float32).astype(np.float64).tobytes().hex(),
            hexadecimal[2]), line)
        line = line.replace("xf32>", "xf64>")
        operands = re.match(r"\s*%\w+ = skim\.(?:linear|embed) %[\w#]+, (%\w+)", line)
        if operands and operands[1] in stored:
            head, _, types = line.rpartition(" : ")
            x, result = types.split(", ")[0], types.rpartition(" -> ")[2]
            line = f"{head} : {x}, {stored[operands[1]]} -> {result}"
        lines.append(line)
    return "\n".join(lines)


class Model:
    def __init__(self, build, folder, work):
        self.build, self.folder, self.work = build, folder, work
        self.ir = work / "vjp.mlir"
        imported, raised, double = (work / name for name in ("imported.mlir", "raised.mlir", "double.mlir"))
        self.run("bin/skim-translate", "--import-onnx", folder / "model.onnx", "-o", imported)
        self.run("bin/skim-opt", f"--convert-onnx-to-lm=base={folder}", imported, "-o", raised)
        text = raised.read_text()
        double.write_text(in_double(text))
        config = re.search(r"skim\.model = \{([^}]*)\}", text)[1]
        self.config = {key: int(value) for key, value in re.findall(r"(\w+) = (\d+) : i64", config)}
        self.layers = set(re.findall(r'skim\.linear .*?layer = "([^"]*)"', text))
        caches = ",".join(str(4 + i) for i in range(2 * self.config["layers"]))
        observed = work / "observed.mlir"
        self.run("bin/skim-opt", "--skim-differentiate=function=forward observe", raised, "-o", observed)
        self.observed = set(re.findall(r'skim\.output_adjoint = "([^"]*)"', observed.read_text()))
        self.run("bin/skim-opt", f"--skim-differentiate=function=forward wrt={caches}", double, "-o", self.ir)

    def run(self, tool, *arguments):
        done = subprocess.run([str(self.build / tool), *map(str, arguments)], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{self.folder.name}: {tool} failed:\n{done.stderr[:4000]}")

    def interpret(self, function, arguments):
        write_safetensors(self.work / "in.safetensors", arguments)
        self.run("test/bin/skim-interpret", self.ir, "--function", function, "--base", self.folder, "--inputs",
                 self.work / "in.safetensors", "-o", self.work / "out.safetensors")
        return read_safetensors(self.work / "out.safetensors")


def check(model, random):
    """How far <v, vjp(w)> is from the difference, and the bound of that, both relative."""
    heads, size, count = (model.config[key] for key in ("kv_heads", "head_dim", "layers"))
    tokens = random.integers(1, model.config["vocab"], (1, NEW)).astype(np.int32)
    fixed = [tokens, np.array([CACHED], np.int32), np.array([NEW], np.int32), np.array([NEW - 1], np.int32)]
    shape = (1, heads, CACHED + NEW, size)
    caches = [random.uniform(-1, 1, shape) for _ in range(2 * count)]
    v = [random.uniform(-1, 1, shape) for _ in caches]
    results = model.interpret("forward", fixed + caches)
    w = [random.uniform(-1, 1, result.shape) for result in results]
    gradient = model.interpret("forward_vjp", fixed + caches + w)
    magnitude = sum(float(np.abs(a * b).sum()) for a, b in zip(w, results))

    def along(step):
        moved = [cache + step * direction for cache, direction in zip(caches, v)]
        return sum(float((a * b).sum()) for a, b in zip(w, model.interpret("forward", fixed + moved)))

    def difference(step):
        return (along(step) - along(-step)) / (2 * step)

    # The difference of two steps is three times the finer one's error, in its
    # first order; rounding adds what a thousand roundings of <w, f> come to.
    step = 1e-4
    coarse, fine = difference(step), difference(step / 2)
    bound = abs(coarse - fine) + 1000 * 2.0**-52 * magnitude / step
    size = sum(float(np.abs(a * b).sum()) for a, b in zip(gradient, v))
    return abs(sum(float((a * b).sum()) for a, b in zip(gradient, v)) - fine) / size, bound / size


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    shared = Path(os.environ.get("SKIM_SHARED", REPOSITORY.parent / "shared"))
    parser.add_argument("--models", type=Path, default=shared / "data" / "models")
    parser.add_argument("--build", type=Path, default=REPOSITORY / "build")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    if not arguments.models.is_dir():
        print(f"unsupported: no models at {arguments.models}")
        sys.exit(77)
    for name in arguments.names or MODELS:
        with tempfile.TemporaryDirectory() as work:
            model = Model(arguments.build, arguments.models / name, Path(work))
            error, bound = check(model, np.random.default_rng(5))
        if model.observed != model.layers:
            raise SystemExit(f"{name}: observed {sorted(model.observed)}, expected {sorted(model.layers)}")
        if not error <= bound or not bound <= 1e-5:
            raise SystemExit(f"{name}: error {error:.2g}, expected at most {bound:.2g}, and that at most 1e-5")
        print(f"{name}: {len(model.layers)} layers, error {error:.1e} of at most {bound:.1e}", flush=True)
    print("all exports are differentiated")


if __name__ == "__main__":
    main()
