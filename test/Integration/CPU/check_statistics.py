"""A statistics file against the reference that PyTorch computed.

    check_statistics.py REFERENCE STATISTICS

The relative error (Frobenius norm) of each tensor is below 1e-3. What the
reference lacks, the second moment of the outputs' gradients, has their squares
on its diagonal and no negative eigenvalue.
"""

import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../Inputs"))
from statistics_file import Statistics, read_safetensors


def main(reference, statistics):
    expected, _ = read_safetensors(reference)
    found = Statistics(statistics)
    worst = {}
    for name, tensor in expected.items():
        layer, suffix = name.rsplit(".", 1)
        got = found.get(layer, suffix)
        assert got.shape == tensor.shape, (name, got.shape, tensor.shape)
        error = np.linalg.norm(got - tensor.astype(np.float64)) / np.linalg.norm(tensor.astype(np.float64))
        if error > worst.get(suffix, (-1, ""))[0]:
            worst[suffix] = (error, name)
    assert len(worst) == 5, worst
    for suffix, (error, name) in worst.items():
        print(f"{suffix}: {error:.1e} at {name}")
        if not error < 1e-3:
            sys.exit(f"{name}: expected a relative error below 1e-3, got {error}")
    for layer in found.reads:
        if layer == "lm_head":
            assert f"{layer}.output_gradient_second_moment" not in found.tensors
            continue
        moment, squares = found.get(layer, "output_gradient_second_moment"), found.get(layer, "output_squared_gradient")
        np.testing.assert_allclose(np.diag(moment), squares, rtol=1e-6, err_msg=layer)
        assert np.linalg.eigvalsh(moment).min() > -1e-6 * np.trace(moment), layer


main(*sys.argv[1:])
