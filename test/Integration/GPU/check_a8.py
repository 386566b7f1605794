"""Logits of f32, f16 and 8-bit activations: bytes are off by more than halves, and by little."""
import sys

import numpy as np


def read(path):
    data = open(path, "rb").read()
    begin = 8 + int.from_bytes(data[:8], "little")
    return np.frombuffer(data[begin:], np.float32)


exact, halves, rounded = map(read, sys.argv[1:])
size = np.abs(exact).max()
half, byte = (np.abs(other - exact).max() / size for other in (halves, rounded))
# Seven bits and a sign of the largest of 64 and more numbers, in some ten linears in a row.
assert half < 2e-3 and 4 * half < byte < 0.1, (half, byte)
