"""Writes weights.bin (48x64 float32, then the same in float16) and damaged copies."""
import os
import random
import struct
import sys

out = sys.argv[1]
random.seed(7)
values = [random.gauss(0, 1) for _ in range(48 * 64)]


def write(folder, values, cut=None):
    os.makedirs(folder, exist_ok=True)
    data = struct.pack(f"<{len(values)}f", *values) + struct.pack(f"<{len(values)}e", *values)
    with open(os.path.join(folder, "weights.bin"), "wb") as file:
        file.write(data[:cut])


write(out, values)
write(os.path.join(out, "short"), values, cut=len(values) * 4 - 1)
values[3 * 64 + 5] = float("nan")
write(os.path.join(out, "nan"), values)
