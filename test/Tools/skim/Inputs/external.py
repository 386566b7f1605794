"""Changes where model.onnx says that a weight's data lies.

    external.py FOLDER KEY VALUE        KEY: location, offset or length, of the first weight
"""

import os
import sys

import onnx

folder, key, value = sys.argv[1:]
path = os.path.join(folder, "model.onnx")
model = onnx.load(path, load_external_data=False)
tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "model.embed_tokens.weight")
next(entry for entry in tensor.external_data if entry.key == key).value = value
onnx.save(model, path)
