"""Finds the built module, and makes packages around the model written by hand."""

import hashlib
import json
import os
import pathlib
import struct
import sys

import numpy
import pytest

BUILD = pathlib.Path(os.environ.get("SKIM_BUILD", pathlib.Path(__file__).parents[2] / "build")).resolve()
sys.path.insert(0, str(BUILD / "python"))

VOCABULARY = 40


def write_safetensors(path, tensors):
    """float32 and int32 arrays, each at a multiple of 64 bytes."""
    header, data = {}, b""
    for name, array in tensors.items():
        if len(data) % 64:
            padding = 64 - len(data) % 64
            header[f"__padding__.{name}"] = {
                "dtype": "U8",
                "shape": [padding],
                "data_offsets": [len(data), len(data) + padding],
            }
            data += bytes(padding)
        header[name] = {
            "dtype": {"float32": "F32", "int32": "I32"}[str(array.dtype)],
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + array.nbytes],
        }
        data += array.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def byte_tokenizer():
    """A tokenizer.json that spells: token 3 + i is the i-th of 36 characters."""
    specials = ["<unk>", "<s>", "</s>"]
    characters = "abcdefghijklmnopqrstuvwxyz0123456789"
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    byte_level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": text, "special": True, **plain} for i, text in enumerate(specials)],
        "normalizer": None,
        "pre_tokenizer": {"add_prefix_space": False, **byte_level},
        "post_processor": None,
        "decoder": {"add_prefix_space": True, **byte_level},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {text: i for i, text in enumerate([*specials, *characters])},
            "merges": [],
        },
    }


def expected_logits(tokens):
    """The last row, as test/unit/Runtime/Model.c defines it."""
    total = sum((t + 1) * (i + 1) * (t % 3 + 1) for i, t in enumerate(tokens))
    return numpy.array([(total + v * v) % 251 for v in range(VOCABULARY)], numpy.float32)


@pytest.fixture
def package(tmp_path):
    """A package folder of the hand-written model."""
    source = BUILD / "test" / "models" / "SkimTestModel.so"
    if not source.exists():
        pytest.skip(f"unsupported: {source.name} is not built")
    folder = tmp_path / "test.skim"
    (folder / "targets").mkdir(parents=True)
    code = source.read_bytes()
    (folder / "targets" / "model.so").write_bytes(code)
    weights = folder / "weights.safetensors"
    scale = numpy.array([t % 3 + 1 for t in range(VOCABULARY)], numpy.float32)
    write_safetensors(weights, {"offset": numpy.array([1], numpy.int32), "scale": scale})
    (folder / "tokenizer.json").write_text(json.dumps(byte_tokenizer()))
    program = {
        "abi": 1,
        "target": "cpu:test",
        "code": "targets/model.so",
        "code_sha256": hashlib.sha256(code).hexdigest(),
        "weights_file": "weights.safetensors",
        "weights": ["scale", "offset"],
        "weight_bytes": [4 * VOCABULARY, 4],
        "caches": [{"heads": 2, "dim": 4, "bytes_per_element": 4}, {"heads": 1, "dim": 3, "bytes_per_element": 2}],
        "vocabulary": VOCABULARY,
        "context": 100,
        "max_rows": 16,
        "scratch": {"fixed": 64, "per_row": 8, "per_thread": 64},
        "sample_scratch": 4096,
        "cpu_features": [],
    }
    text = json.dumps(program, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    program["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    manifest = {
        "version": 1,
        "skim": "0.1.0",
        "model": {"name": "test", "hash": "0", "file": "test.onnx"},
        "tokenizer": {"kind": "bpe", "file": "tokenizer.json"},
        "end_tokens": [2],
        "begin_token": 1,
        "files": {"weights.safetensors": {"bytes": weights.stat().st_size}},
        "targets": {"cpu:test": program},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
