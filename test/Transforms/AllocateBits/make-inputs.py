"""Writes weights.bin (two 48x64 float32 matrices) and a statistics file for layers a and b, and a damaged one."""
import os
import sys

import numpy as np

out = sys.argv[1]
random = np.random.default_rng(11)
os.makedirs(out, exist_ok=True)
weights = random.standard_normal((2, 48, 64)).astype(np.float32)
# Rows that matter differently, and outliers: what mixed widths are for.
weights *= random.lognormal(0, 0.5, (2, 48, 1)).astype(np.float32)
weights.tofile(os.path.join(out, "weights.bin"))
upper = np.triu_indices(64)
tensors = {}
for name in ("a", "b"):
    mixing = random.standard_normal((64, 64)) * random.lognormal(0, 0.7, (1, 64))
    x = random.standard_normal((300, 64)) @ mixing
    s = random.lognormal(0, 1, 300)
    gradient = random.lognormal(0, 1, (48, 64)) * random.lognormal(0, 1, (48, 1))
    scale = gradient.max(1)
    bits = (gradient / scale[:, None]).astype(np.float32).view(np.uint32)
    tensors |= {
        f"{name}.input_second_moment": ((x.T @ x)[upper], "F32"),
        f"{name}.guided_second_moment": (((x * s[:, None]).T @ x)[upper], "F32"),
        f"{name}.input_first_moment": (x.sum(0), "F32"),
        f"{name}.input_abs_max": (np.abs(x).max(0), "F32"),
        f"{name}.output_squared_gradient": (gradient.sum(1), "F32"),
        f"{name}.squared_gradient": ((bits >> 16).astype(np.uint16), "BF16"),
        f"{name}.squared_gradient_scale": (scale, "F32"),
    }


def write(path, tensors):
    import json

    header, data = {"__metadata__": {"format": "skim-statistics", "version": "1", "model_hash": "m", "text_hash": "t",
                                     "options": "{}", "tokens": "300", "sequences": "3",
                                     "reads": json.dumps({"a": "a", "b": "b"})}}, b""
    for name, (values, kind) in tensors.items():
        raw = values.astype(np.float32 if kind == "F32" else np.uint16).tobytes()
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + data)


write(os.path.join(out, "statistics"), tensors)
values, kind = tensors["b.guided_second_moment"]
values = values.copy()
values[5] = np.nan
write(os.path.join(out, "nan"), tensors | {"b.guided_second_moment": (values, kind)})
