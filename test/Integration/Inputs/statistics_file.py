"""Statistics files for tests: an own reader of the contract's format."""

import json
import struct

import numpy as np


def read_safetensors(path):
    """Tensors by name (16-bit ones as uint16), and the metadata."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header, data = json.loads(file.read(length)), file.read()
    metadata = header.pop("__metadata__", {})
    kinds = {"F32": np.float32, "BF16": np.uint16, "U16": np.uint16, "U8": np.uint8}
    tensors = {name: np.frombuffer(data[entry["data_offsets"][0] : entry["data_offsets"][1]], kinds[entry["dtype"]])
               .reshape(entry["shape"]) for name, entry in header.items()}
    return tensors, metadata


class Statistics:
    def __init__(self, path):
        self.tensors, self.metadata = read_safetensors(path)
        assert self.metadata["format"] == "skim-statistics" and self.metadata["version"] == "1"
        self.reads = json.loads(self.metadata["reads"])

    def get(self, layer, suffix):
        """A layer's tensor: its input's where it is shared, squares whole, gradients decoded."""
        if suffix.startswith("input_"):
            layer = self.reads[layer]
        tensor = self.tensors[f"{layer}.{suffix}"]
        if suffix == "squared_gradient":
            words = tensor.astype(np.int64) << 16
            if f"{layer}.squared_gradient_residual" in self.tensors:
                # What bf16 rounded away.
                rest = self.tensors[f"{layer}.squared_gradient_residual"].astype(np.int64)
                words += np.where(rest <= 0x8000, rest, rest - 0x10000)
            values = words.astype(np.uint32).view(np.float32)
            return values.astype(np.float64) * self.tensors[f"{layer}.squared_gradient_scale"][:, None]
        if not suffix.endswith("second_moment"):
            return tensor.astype(np.float64)
        triangles = tensor.reshape(-1, tensor.shape[-1]).astype(np.float64)
        order = int((np.sqrt(8 * tensor.shape[-1] + 1) - 1) / 2)
        rows, columns = np.triu_indices(order)
        squares = np.zeros((len(triangles), order, order))
        squares[:, rows, columns] = triangles
        squares[:, columns, rows] = triangles
        return squares[0] if tensor.ndim == 1 else squares
