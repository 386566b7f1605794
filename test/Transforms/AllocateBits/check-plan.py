"""The plan of a run, its bits and what was written for it.

    check-plan.py FOLDER BITS [OUT]
"""
import json
import os
import struct
import sys

folder, bits = sys.argv[1], float(sys.argv[2])
plan = json.load(open(os.path.join(folder, "plan.json")))
weights = 2 * 48 * 64
total = 0
for name in ("a", "b"):
    layer = plan["layers"][name]
    widths = [int(digit) for digit in layer["widths"]]
    assert len(widths) == 48
    # Codes padded to bytes, 2^b entries of one byte, an f16 scale; the permutation where widths differ.
    expected = sum((64 * b + 7) // 8 + 2**b + 2 for b in widths) + (2 * 48 if len(set(widths)) > 1 else 0)
    assert layer["bytes"] == expected, (layer["bytes"], expected)
    total += expected
assert plan["bytes"] == total and total * 8 / weights <= bits, (plan["bytes"], total * 8 / weights)
assert total * 8 / weights > bits * 0.98, total * 8 / weights

if len(sys.argv) > 3:
    data = open(sys.argv[3], "rb").read()
    (length,) = struct.unpack("<Q", data[:8])
    header = {name: entry for name, entry in json.loads(data[8 : 8 + length]).items() if name[:2] in ("a.", "b.")}
    stored = sum(entry["data_offsets"][1] - entry["data_offsets"][0] for entry in header.values())
    assert stored == total, (stored, total)
    for name in ("a", "b"):
        begin, end = header[name + ".weight.permutation"]["data_offsets"]
        order = struct.unpack("<48H", data[8 + length + begin : 8 + length + end])
        assert sorted(order) == list(range(48))
        widths = [int(plan["layers"][name]["widths"][row]) for row in order]
        assert widths == sorted(widths), "rows of equal width lie together"
