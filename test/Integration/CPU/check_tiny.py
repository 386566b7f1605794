"""Packages of the tiny model against numpy: an own forward pass, an own decoder.

    check_tiny.py FOLDER_WITH_MODEL WORK_FOLDER

Every format on every target of this machine: the logits that generated code
gives are those of the weights that the package holds, decoded here from
weights.safetensors by the contract's equations.
"""

import json
import os
import struct
import subprocess
import sys

import numpy as np
import onnx

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../Inputs"))
from tiny_model import Tiny

SEQUENCES = [[5], [7, 0, 273], list(range(3, 260, 5)), [100] * 33, list(range(96))]


def run(*arguments):
    result = subprocess.run(["skim", *arguments], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"skim {' '.join(arguments)}: status {result.returncode}: {result.stderr}")
    return result.stdout


def read_safetensors(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header, data = json.loads(file.read(length)), file.read()
    kinds = {"F32": np.float32, "F16": np.float16, "U8": np.uint8}
    return {name: np.frombuffer(data[entry["data_offsets"][0] : entry["data_offsets"][1]], kinds[entry["dtype"]])
            .reshape(entry["shape"]) for name, entry in header.items() if entry.get("dtype") in kinds}


def unpack(rows, bits, count):
    """Codes of a matrix of packed rows, lowest bit first."""
    ones = np.unpackbits(rows, axis=-1, bitorder="little")[:, : bits * count]
    return (ones.reshape(len(rows), count, bits) << np.arange(bits)).sum(-1)


def decode(tensors, name, columns, bits, group, asymmetric):
    """A linear's weight as the contract defines it."""
    if name in tensors:
        return tensors[name].astype(np.float32)
    codes = unpack(tensors[name + ".codes"], bits, columns)
    if name + ".table" in tensors:
        table = tensors[name + ".table"].astype(np.float32)
        if name + ".table_scale" in tensors:
            table = tensors[name + ".table"].view(np.int8) * tensors[name + ".table_scale"].astype(np.float32)[:, None]
        return np.take_along_axis(table, codes, 1)
    spread = lambda values: np.repeat(values, group or columns, axis=1)[:, :columns]
    scales = tensors[name + ".scales"].astype(np.float32).reshape(len(codes), -1)
    zeros = unpack(tensors[name + ".zeros"], bits, scales.shape[1]) if asymmetric else np.full(scales.shape, 1 << (bits - 1))
    return spread(scales) * (codes - spread(zeros))


def bf16_tolerance(model):
    """Of bf16 mode: a linear rounds its input and its weights to 8 bits, by at most 2^-9 of each number. Sixteen such
    roundings (two layers of four linears behind each other) that all add up are 16 * 2^-9 of the logits' size; a single
    logit is within six times that of the root mean square."""
    size = np.sqrt(np.mean([np.square(model.logits(ids)).mean() for ids in SEQUENCES]))
    return 16 * 2**-9, 6 * 16 * 2**-9 * size


def check(label, package, model, ids_file, tolerance, relative_tolerance=None):
    output = package + ".logits"
    run("logits", package, "--token-ids", ids_file, "-o", output)
    logits = read_safetensors(output)
    worst = error = norm = 0.0
    for i, ids in enumerate(SEQUENCES):
        expected = model.logits(ids)
        assert logits[str(i)].shape == expected.shape
        difference = logits[str(i)] - expected
        worst = max(worst, np.abs(difference).max())
        error, norm = error + (difference**2).sum(), norm + (expected**2).sum()
    relative = np.sqrt(error / norm)
    print(f"{label}: largest difference {worst:.2e}, {relative:.2e} of the logits' size")
    if not (worst <= tolerance and relative <= (relative_tolerance or tolerance)):
        sys.exit(f"{label}: expected differences of at most {tolerance}, got {worst}, {relative} of the logits' size")
    # One token at a time: the other schedule, over a growing cache.
    ids = SEQUENCES[1] + [int(word) for word in run("run", package, "--token-ids", " ".join(map(str, SEQUENCES[1])), "--tokens", "24").split()]
    expected = model.logits(ids)
    for at in range(len(SEQUENCES[1]), len(ids)):
        row = expected[at - 1]
        if not row[ids[at]] >= row.max() - 2 * tolerance:
            sys.exit(f"{label}: token {at}: expected {row.argmax()}, got {ids[at]}")


def main(folder, work):
    source = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(os.path.join(folder, "model.onnx")).graph.initializer}
    os.makedirs(work, exist_ok=True)
    ids_file = os.path.join(work, "ids.txt")
    with open(ids_file, "w") as file:
        file.writelines(" ".join(map(str, ids)) + "\n" for ids in SEQUENCES)
    onnx_path = os.path.join(folder, "model.onnx")

    def original(layer):
        if layer in ("model.embed_tokens", "lm_head"):
            return source["model.embed_tokens.weight"]
        return source[layer + ".weight"].T

    flags = open("/proc/cpuinfo").read()
    targets = ["cpu", "cpu:portable", "cpu-sim:x86-64-v4"] if "x86" in os.uname().machine else ["cpu"]
    targets += ["cpu:x86-64-v3"] if " avx2 " in flags else []
    targets += ["cpu:x86-64-v4"] if " avx512bw " in flags else []
    dense = os.path.join(work, "dense.skim")
    targets_options = [word for target in targets for word in ("--target", target)]
    run("compile", onnx_path, "-o", dense, *targets_options)
    built = json.load(open(os.path.join(dense, "manifest.json")))["targets"]
    assert sorted(built) == sorted(targets), built.keys()
    check("dense", dense, Tiny(source, original), ids_file, 2e-4, 1e-5)
    reference = None
    for target in targets:
        output = os.path.join(work, "target.safetensors")
        run("logits", dense, "--token-ids", ids_file, "-o", output, "--target", target)
        logits = read_safetensors(output)
        reference = reference or logits
        worst = max(np.abs(logits[key] - reference[key]).max() for key in reference)
        print(f"dense {target}: largest difference from {targets[0]} {worst:.2e}")
        if not worst <= 2e-4:
            sys.exit(f"{target} differs from {targets[0]}: {worst}")

    for term, bits, group, asymmetric in [("w4g16", 4, 16, False), ("w3g32a", 3, 32, True), ("w8", 8, 0, False), ("w5", 5, 0, False),
                                          ("w2g16a", 2, 16, True), ("k4", 4, 0, False), ("k3", 3, 0, False), ("k3i", 3, 0, False)]:
        for mode in ("f32", "bf16"):
            package = os.path.join(work, f"{term}-{mode}.skim")
            # Rows, since the file is read here; that layouts change no number is tested in Tools/skim/layouts.test.
            run("quantize", onnx_path, "-o", package, "--format", term, "--activations", mode, "--layout", "rows")
            tensors = read_safetensors(os.path.join(package, "weights.safetensors"))

            def weight(layer):
                name = "model.embed_tokens" if layer == "lm_head" else layer
                columns = original(layer).shape[1]
                return decode(tensors, name + ".weight", columns, bits, group, asymmetric)

            model = Tiny(source, weight)
            relative, tolerance = bf16_tolerance(model) if mode == "bf16" else (1e-5, 2e-4)
            check(f"{term} {mode}", package, model, ids_file, tolerance, relative)


main(*sys.argv[1:])
