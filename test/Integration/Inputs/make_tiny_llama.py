"""Writes a tiny LLaMA with random weights in ONNX, with a tokenizer.

    make_tiny_llama.py FOLDER [--inline] [--untied] [--layers N] [--seed S]
                       [--context N] [--poison TENSOR:ROW:COLUMN:VALUE]

The same graph as scripts/gguf_to_onnx.py writes (its builder is used): fused
attention with a cache. Sizes are chosen to be awkward for vectors. `--inline`
keeps the weights in model.onnx; `--poison` puts a value (nan, inf) into the
weight of a GGUF tensor name such as blk.1.ffn_up.weight.
"""

import argparse
import json
import os
import sys

import numpy as np
import onnx

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../scripts"))
import gguf_to_onnx

MERGES = ["t h", "Ġ th", "Ġth e", "i n", "e r", "o n", "a n", "an d", "Ġ and", "Ġ a", "in g", "e d", "o r", "Ġ s", "l l"]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def byte_characters():
    """GPT-2's printable character of each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


class Tiny:
    """Stands where gguf_to_onnx reads a GGUF file."""

    heads, kv_heads, head, ffn = 3, 1, 16, 104
    hidden, epsilon, theta = 48, 1e-5, 10000.0

    def __init__(self, options):
        self.layers, self.context = options.layers, options.context
        self.random = np.random.default_rng(options.seed)
        self.poison = options.poison.split(":") if options.poison else None
        self.tokens = SPECIAL + byte_characters() + [merge.replace(" ", "") for merge in MERGES]
        self.tensors = {"output.weight"} if options.untied else set()
        self.facts = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": self.tokens,
                      "tokenizer.ggml.token_type": [3] * len(SPECIAL) + [1] * (len(self.tokens) - len(SPECIAL)),
                      "tokenizer.ggml.merges": MERGES}

    def fact(self, key, otherwise=None):
        return self.facts.get(key, otherwise)

    def tensor(self, name):
        rows = {"token_embd": len(self.tokens), "output": len(self.tokens), "attn_q": self.heads * self.head,
                "attn_k": self.kv_heads * self.head, "attn_v": self.kv_heads * self.head,
                "attn_output": self.hidden, "ffn_gate": self.ffn, "ffn_up": self.ffn, "ffn_down": self.hidden}
        columns = {"attn_output": self.heads * self.head, "ffn_down": self.ffn}
        kind = name.split(".")[-2]
        if kind in rows:
            shape = (rows[kind], columns.get(kind, self.hidden))
            # Large enough for clear favourites among the next tokens.
            data = self.random.normal(0, 1.5 / np.sqrt(shape[1]), shape)
        else:
            data = self.random.uniform(0.5, 1.5, self.hidden)
        data = data.astype(np.float32)
        if self.poison and self.poison[0] == name:
            data[int(self.poison[1]), int(self.poison[2])] = float(self.poison[3])
        return data


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--inline", action="store_true")
    parser.add_argument("--untied", action="store_true")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--context", type=int, default=96)
    parser.add_argument("--poison")
    options = parser.parse_args()
    source = Tiny(options)
    os.makedirs(options.folder, exist_ok=True)
    data = os.path.join(options.folder, "model.onnx.data")
    with open(data, "wb") as file:
        model = gguf_to_onnx.build_graph(source, gguf_to_onnx.Writer(file))
    path = os.path.join(options.folder, "model.onnx")
    if options.inline:
        onnx.external_data_helper.load_external_data_for_model(model, options.folder)
        os.remove(data)
    onnx.save(model, path)
    with open(os.path.join(options.folder, "tokenizer.json"), "w", encoding="utf-8") as file:
        json.dump(gguf_to_onnx.tokenizer_json(source), file, ensure_ascii=False)
    with open(os.path.join(options.folder, "generation_config.json"), "w", encoding="utf-8") as file:
        json.dump({"eos_token_id": 0}, file)


if __name__ == "__main__":
    main()
