"""Two statistics files agree: same_statistics.py A B TOLERANCE (relative, each tensor's Frobenius norm)."""

import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../Integration/Inputs"))
from statistics_file import Statistics


def main(a, b, tolerance):
    first, second = Statistics(a), Statistics(b)
    assert first.reads == second.reads and first.metadata["tokens"] == second.metadata["tokens"]
    names = {name for name in first.tensors if not name.startswith("__padding__")}
    assert names == {name for name in second.tensors if not name.startswith("__padding__")}
    for name in sorted(names):
        layer, suffix = name.rsplit(".", 1)
        if suffix in ("squared_gradient_scale", "squared_gradient_residual"):
            continue
        x, y = first.get(layer, suffix), second.get(layer, suffix)
        error = np.linalg.norm(x - y) / np.linalg.norm(x)
        if not error <= float(tolerance):
            sys.exit(f"{name}: expected a relative difference of at most {tolerance}, got {error}")


main(*sys.argv[1:])
