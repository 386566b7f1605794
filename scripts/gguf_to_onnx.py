#!/usr/bin/env python3
"""Turns a LLaMA-architecture GGUF file into an ONNX decoder with a cache.

    gguf_to_onnx.py MODEL.gguf OUT_DIR

Writes model.onnx (graph), model.onnx.data (weights, float32), tokenizer.json
and generation_config.json. The graph has the fused form that model builders for
onnxruntime write: GroupQueryAttention with rotary embedding, simplified layer
normalization. Needs numpy, onnx and gguf; no PyTorch.
"""

import json
import os
import sys

import gguf
import numpy as np
import onnx
from onnx import TensorProto, helper


def fail(message):
    sys.exit(f"gguf_to_onnx: error: {message}")


class Source:
    """A GGUF file: its facts, and its tensors dequantized to float32."""

    def __init__(self, path):
        if not os.path.isfile(path):
            fail(f"no such file at {path}: expected a GGUF file")
        try:
            reader = gguf.GGUFReader(path)
        except (ValueError, OSError) as error:
            fail(f"damaged GGUF at {path}: {error}")
        self.fields = reader.fields
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}
        if self.fact("general.architecture") != "llama":
            fail(f"unsupported architecture at {path}: expected llama, got {self.fact('general.architecture')}")
        self.hidden = self.fact("llama.embedding_length")
        self.layers = self.fact("llama.block_count")
        self.ffn = self.fact("llama.feed_forward_length")
        self.heads = self.fact("llama.attention.head_count")
        self.kv_heads = self.fact("llama.attention.head_count_kv", self.heads)
        self.head = self.fact("llama.attention.key_length", self.hidden // self.heads)
        self.epsilon = self.fact("llama.attention.layer_norm_rms_epsilon")
        self.context = self.fact("llama.context_length")
        self.theta = self.fact("llama.rope.freq_base", 10000.0)

    def fact(self, key, otherwise=None):
        if key not in self.fields:
            if otherwise is None:
                fail(f"missing key in GGUF: expected {key}")
            return otherwise
        return self.fields[key].contents()

    def tensor(self, name):
        """Float32 in the Hugging Face layout: llama.cpp interleaves the rotary
        halves of the query and key rows, which is undone here."""
        entry = self.tensors[name]
        data = np.asarray(gguf.quants.dequantize(entry.data, entry.tensor_type), dtype=np.float32)
        kind = name.split(".")[-2]
        heads = {"attn_q": self.heads, "attn_k": self.kv_heads}.get(kind)
        if heads:
            rows, columns = data.shape
            data = data.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
        return data


class Writer:
    """Collects nodes; writes initializers to the external data file as they come."""

    def __init__(self, data_file):
        self.nodes, self.initializers = [], []
        self.data = data_file
        self.name = os.path.basename(data_file.name)

    def node(self, op, inputs, outputs, name, domain="", **attributes):
        self.nodes.append(helper.make_node(op, inputs, outputs, name=name, domain=domain, **attributes))
        return outputs[0]

    def weight(self, name, array):
        array = np.ascontiguousarray(array)
        self.data.write(b"\0" * (-self.data.tell() % 64))
        offset = self.data.tell()
        self.data.write(memoryview(array).cast("B"))
        tensor = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", self.name), ("offset", offset), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        self.initializers.append(tensor)
        return name

    def constant(self, name, values):
        self.initializers.append(helper.make_tensor(name, TensorProto.INT64, [len(values)] if isinstance(values, list) else [], values if isinstance(values, list) else [values]))
        return name


def build_graph(source, writer):
    microsoft = "com.microsoft"
    kv = source.kv_heads * source.head

    # How many tokens each sequence has, as GroupQueryAttention wants it.
    mask = "/model/attn_mask_reformat"
    total = writer.node("ReduceSum", ["attention_mask", writer.constant("one_axis", [1])], [f"{mask}/sum"], f"{mask}/ReduceSum", keepdims=0)
    writer.node("Sub", [total, writer.constant("one", [1])], [f"{mask}/sub"], f"{mask}/Sub")
    writer.node("Cast", [f"{mask}/sub"], ["seqlens_k"], f"{mask}/Sub/Cast", to=TensorProto.INT32)
    writer.node("Shape", ["attention_mask"], [f"{mask}/shape"], f"{mask}/Shape")
    writer.node("Gather", [f"{mask}/shape", writer.constant("second", 1)], [f"{mask}/length"], f"{mask}/Gather", axis=0)
    writer.node("Cast", [f"{mask}/length"], ["total_seq_len"], f"{mask}/Gather/Cast", to=TensorProto.INT32)

    frequencies = source.theta ** -(np.arange(0, source.head, 2, dtype=np.float32) / source.head)
    angles = np.arange(source.context, dtype=np.float32)[:, None] * frequencies.astype(np.float32)[None, :]
    writer.weight("cos_cache", np.cos(angles).astype(np.float32))
    writer.weight("sin_cache", np.sin(angles).astype(np.float32))

    embedding = source.tensor("token_embd.weight")
    writer.weight("model.embed_tokens.weight", embedding)
    residual = writer.node("Gather", ["model.embed_tokens.weight", "input_ids"], ["/model/embed_tokens/output"], "/model/embed_tokens/Gather")

    def linear(prefix, module, tensor, x):
        path = f"/model/{prefix}/{module}/MatMul"
        name = writer.weight(f"model.{prefix}.{module}.weight".replace("/", "."), source.tensor(tensor).T)
        return writer.node("MatMul", [x, name], [f"{path}/output_0"], path)

    pending = None  # what the next normalization adds to the residual stream

    def norm(path, tensor, name):
        nonlocal residual, pending
        weight = writer.weight(name, source.tensor(tensor))
        if pending is None:
            return writer.node("SimplifiedLayerNormalization", [residual, weight], [f"{path}/output_0"], path, axis=-1, epsilon=source.epsilon, stash_type=1)
        outputs = [f"{path}/output_0", "", "", f"{path}/output_3"]
        writer.node("SkipSimplifiedLayerNormalization", [residual, pending, weight], outputs, path, microsoft, epsilon=source.epsilon)
        residual = outputs[3]
        return outputs[0]

    for i in range(source.layers):
        layer, block = f"layers.{i}", f"blk.{i}"
        x = norm(f"/model/{layer}/input_layernorm/LayerNorm", f"{block}.attn_norm.weight", f"model.{layer}.input_layernorm.weight")
        q = linear(layer, "self_attn/q_proj", f"{block}.attn_q.weight", x)
        k = linear(layer, "self_attn/k_proj", f"{block}.attn_k.weight", x)
        v = linear(layer, "self_attn/v_proj", f"{block}.attn_v.weight", x)
        attention = f"/model/{layer}/self_attn/GroupQueryAttention"
        writer.node(
            "GroupQueryAttention",
            [q, k, v, f"past_key_values.{i}.key", f"past_key_values.{i}.value", "seqlens_k", "total_seq_len", "cos_cache", "sin_cache"],
            [f"{attention}/output_0", f"present.{i}.key", f"present.{i}.value"],
            attention, microsoft, num_heads=source.heads, kv_num_heads=source.kv_heads,
            scale=float(1 / np.sqrt(source.head)), do_rotary=1, rotary_interleaved=0)
        pending = linear(layer, "self_attn/o_proj", f"{block}.attn_output.weight", f"{attention}/output_0")
        x = norm(f"/model/{layer}/post_attention_layernorm/LayerNorm", f"{block}.ffn_norm.weight", f"model.{layer}.post_attention_layernorm.weight")
        gate = linear(layer, "mlp/gate_proj", f"{block}.ffn_gate.weight", x)
        up = linear(layer, "mlp/up_proj", f"{block}.ffn_up.weight", x)
        activation = f"/model/{layer}/mlp/act_fn"
        sigmoid = writer.node("Sigmoid", [gate], [f"{activation}/Sigmoid/output_0"], f"{activation}/Sigmoid")
        silu = writer.node("Mul", [gate, sigmoid], [f"{activation}/Mul/output_0"], f"{activation}/Mul")
        product = writer.node("Mul", [silu, up], [f"/model/{layer}/mlp/Mul/output_0"], f"/model/{layer}/mlp/Mul")
        pending = linear(layer, "mlp/down_proj", f"{block}.ffn_down.weight", product)

    x = norm("/model/norm/LayerNorm", "output_norm.weight", "model.norm.weight")
    if "output.weight" in source.tensors:
        head = writer.weight("lm_head.weight", source.tensor("output.weight").T)
    else:  # tied
        head = writer.node("Transpose", ["model.embed_tokens.weight"], ["/lm_head/Transpose/output_0"], "/lm_head/Transpose", perm=[1, 0])
    writer.node("MatMul", [x, head], ["logits"], "/lm_head/MatMul")

    def value(name, kind, shape):
        return helper.make_tensor_value_info(name, kind, shape)

    cache = ["batch_size", source.kv_heads, None, source.head]
    inputs = [value("input_ids", TensorProto.INT64, ["batch_size", "sequence_length"]),
              value("attention_mask", TensorProto.INT64, ["batch_size", "total_sequence_length"])]
    outputs = [value("logits", TensorProto.FLOAT, ["batch_size", "sequence_length", embedding.shape[0]])]
    for i in range(source.layers):
        for kind in ("key", "value"):
            cache[2] = "past_sequence_length"
            inputs.append(value(f"past_key_values.{i}.{kind}", TensorProto.FLOAT, list(cache)))
            cache[2] = "total_sequence_length"
            outputs.append(value(f"present.{i}.{kind}", TensorProto.FLOAT, list(cache)))
    graph = helper.make_graph(writer.nodes, "main", inputs, outputs, initializer=writer.initializers)
    return helper.make_model(graph, producer_name="skim gguf_to_onnx", ir_version=10,
                             opset_imports=[helper.make_opsetid("", 22), helper.make_opsetid(microsoft, 1)])


def tokenizer_json(source):
    """The byte-level BPE of the file in Hugging Face's form."""
    if source.fact("tokenizer.ggml.model") != "gpt2":
        return None
    tokens = source.fact("tokenizer.ggml.tokens")
    kinds = source.fact("tokenizer.ggml.token_type")
    merges = source.fact("tokenizer.ggml.merges")
    control = [i for i, kind in enumerate(kinds) if kind == 3]
    if source.fact("tokenizer.ggml.pre", "smollm") == "smollm":
        # Digits one by one, then GPT-2's pattern.
        split = {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]}
    else:
        split = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": tokens[i], "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True} for i in control],
        "normalizer": None, "pre_tokenizer": split, "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {token: i for i, token in enumerate(tokens)}, "merges": merges},
    }


def main(path, folder):
    source = Source(path)
    os.makedirs(folder, exist_ok=True)
    data = os.path.join(folder, "model.onnx.data")
    with open(data, "wb") as file:
        model = build_graph(source, Writer(file))
    onnx.save(model, os.path.join(folder, "model.onnx"))
    tokenizer = tokenizer_json(source)
    if tokenizer:
        with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as file:
            json.dump(tokenizer, file, ensure_ascii=False)
    config = {"bos_token_id": source.fact("tokenizer.ggml.bos_token_id", -1), "eos_token_id": source.fact("tokenizer.ggml.eos_token_id", -1)}
    with open(os.path.join(folder, "generation_config.json"), "w", encoding="utf-8") as file:
        json.dump({key: int(value) for key, value in config.items() if int(value) >= 0}, file)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
