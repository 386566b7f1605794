"""Decodes out.safetensors by the encodings' equations and compares with weights.bin."""
import json
import os
import struct
import sys

out = sys.argv[1]
raw = open(os.path.join(out, "weights.bin"), "rb").read()
source = struct.unpack(f"<{48 * 64}f", raw[: 48 * 64 * 4])
data = open(os.path.join(out, "out.safetensors"), "rb").read()
(length,) = struct.unpack("<Q", data[:8])
header = json.loads(data[8 : 8 + length])


def tensor(name):
    begin, end = header[name]["data_offsets"]
    return data[8 + length + begin : 8 + length + end]


def halves(name):
    content = tensor(name)
    return struct.unpack(f"<{len(content) // 2}e", content)


def codes(row, count, bits):
    number = int.from_bytes(row, "little")
    return [(number >> (bits * i)) & ((1 << bits) - 1) for i in range(count)]


packed, table = tensor("a.weight.codes"), halves("a.weight.table")
for n in range(48):
    for k, q in enumerate(codes(packed[n * 24 : n * 24 + 24], 64, 3)):
        entries = table[n * 8 : n * 8 + 8]
        best = min(abs(source[n * 64 + k] - entry) for entry in entries)
        assert abs(source[n * 64 + k] - entries[q]) <= best + 1e-6, (n, k)

packed, scales = tensor("b.weight.codes"), halves("b.weight.scales")
for n in range(64):  # transposed: row n of b is column n of the stored matrix
    for k, q in enumerate(codes(packed[n * 24 : n * 24 + 24], 48, 4)):
        scale = scales[n * 2 + k // 32]
        # Nearest code of the grid, whichever side the grid was given.
        candidates = [abs(source[k * 64 + n] - scale * (code - 8)) for code in range(16)]
        assert abs(candidates[q] - min(candidates)) < 1e-6, (n, k)
assert tensor("model.embed_tokens.weight") == raw[48 * 64 * 4 :]
