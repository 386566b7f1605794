"""Statistics of the tiny model against numpy: sums over an own forward pass,
gradients by differences of its loss.

    check_calibrate.py FOLDER_WITH_MODEL STATISTICS IDS [--no-gradients]

IDS holds one sequence, so that the squared gradients are those of one loss.
"""

import os
import sys

import numpy as np
import onnx

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../Inputs"))
from statistics_file import Statistics
from tiny_model import Tiny


class Observed(Tiny):
    """Keeps the inputs of the linears; a weight may be changed in one place, an output at one token."""

    def __init__(self, source):
        self.source, self.change, self.shift, self.inputs = source, None, None, {}
        super().__init__(source, self.weight_of)

    def weight_of(self, layer):
        if layer in ("model.embed_tokens", "lm_head"):
            return self.source["model.embed_tokens.weight"]
        weight = self.source[layer + ".weight"].T.astype(np.float64)
        if self.change and self.change[0] == layer:
            weight[self.change[1], self.change[2]] += self.change[3]
        return weight

    def observe(self, layer, x):
        self.inputs[layer] = x

    def adjust(self, layer, z):
        if self.shift and self.shift[0] == layer:
            z[self.shift[1]] += self.shift[2]
        return z

    def loss(self, ids):
        logits = self.logits(ids[:-1])
        most = logits.max(-1, keepdims=True)
        normalizer = most[:, 0] + np.log(np.exp(logits - most).sum(-1))
        return (normalizer - logits[np.arange(len(ids) - 1), ids[1:]]).mean()


def close(name, got, expected, tolerance):
    error = np.linalg.norm(got - expected) / np.linalg.norm(expected)
    print(f"{name}: {error:.1e}")
    if not error < tolerance:
        sys.exit(f"{name}: expected a relative error below {tolerance}, got {error}")


def main(folder, statistics, ids_file, *flags):
    source = {tensor.name: onnx.numpy_helper.to_array(tensor)
              for tensor in onnx.load(os.path.join(folder, "model.onnx")).graph.initializer}
    ids = [int(word) for word in open(ids_file).read().split()]
    found, model = Statistics(statistics), Observed(source)
    model.loss(ids)
    inputs = dict(model.inputs)
    assert set(found.reads) == set(inputs), (found.reads, inputs.keys())
    for layer, x in inputs.items():
        close(f"{layer} second moment", found.get(layer, "input_second_moment"), x.T @ x, 1e-5)
        close(f"{layer} first moment", found.get(layer, "input_first_moment"), x.sum(0), 1e-4)
        close(f"{layer} maxima", found.get(layer, "input_abs_max"), np.abs(x).max(0), 1e-5)
    if flags:
        assert not any("gradient" in name or "guided" in name for name in found.tensors)
        return
    random = np.random.default_rng(3)
    for layer in inputs:
        if layer == "lm_head":
            # What the model itself expects: p(1 - p), over all outputs and over each token's.
            logits = model.logits(ids[:-1])
            p = np.exp(logits - logits.max(-1, keepdims=True))
            p /= p.sum(-1, keepdims=True)
            fisher, x = p * (1 - p) / (len(ids) - 1) ** 2, inputs[layer]
            close("lm_head outputs", found.get(layer, "output_squared_gradient"), fisher.sum(0), 1e-3)
            close("lm_head guided", found.get(layer, "guided_second_moment"), x.T @ (fisher.mean(1)[:, None] * x), 1e-3)
            assert "lm_head.squared_gradient" not in found.tensors
            continue
        squares, differences = [], []
        gradients = found.get(layer, "squared_gradient")
        for _ in range(12):
            row, column = (int(random.integers(size)) for size in gradients.shape)
            sides = []
            for step in (1e-4, -1e-4):
                model.change = (layer, row, column, step)
                sides.append(model.loss(ids))
            squares.append(gradients[row, column])
            differences.append(((sides[0] - sides[1]) / 2e-4) ** 2)
        model.change = None
        close(f"{layer} squared gradients", np.array(squares), np.array(differences), 1e-3)
        # trace of sum(s x xT) = sum of s |x|^2, and s is the mean over outputs.
        assert found.get(layer, "output_squared_gradient").shape == (gradients.shape[0],)
        guided = found.get(layer, "guided_second_moment")
        assert np.linalg.eigvalsh(guided).min() > -1e-6 * np.trace(guided)
        moment = found.get(layer, "output_gradient_second_moment")
        np.testing.assert_allclose(np.diag(moment), found.get(layer, "output_squared_gradient"), rtol=1e-5)
        # v'Fv is the sum over tokens of (dz.v)^2, and dz.v a derivative in direction v: two losses a token, so
        # for the first block only, whose gradients have come through all others.
        if not layer.startswith("model.layers.0."):
            continue
        direction = random.normal(size=gradients.shape[0])
        energy = 0
        for token in range(len(ids) - 1):
            sides = []
            for step in (1e-4, -1e-4):
                model.shift = (layer, token, step * direction)
                sides.append(model.loss(ids))
            energy += ((sides[0] - sides[1]) / 2e-4) ** 2
        model.shift = None
        close(f"{layer} moment of the output's gradients", direction @ moment @ direction, energy, 1e-3)


main(*sys.argv[1:])
