"""Prints the likeliest token of the last position of a tensor of logits."""

import json
import struct
import sys

import numpy as np

with open(sys.argv[1], "rb") as file:
    (length,) = struct.unpack("<Q", file.read(8))
    entry, data = json.loads(file.read(length))[sys.argv[2]], file.read()
assert entry["dtype"] == "F32" and entry["shape"][1] == 274, entry
begin, end = entry["data_offsets"]
print(np.frombuffer(data[begin:end], np.float32).reshape(entry["shape"])[-1].argmax())
