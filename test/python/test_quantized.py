"""A model that the test writes, quantized by skim and run from Python: no data from elsewhere."""

import json
import pathlib
import struct
import subprocess
import sys

import numpy
import pytest
from conftest import BUILD

skim = pytest.importorskip("skim", reason="unsupported: the Python module is not built")
pytest.importorskip("onnx", reason="unsupported: models are written with onnx")
pytest.importorskip("gguf", reason="unsupported: models are written with gguf")

WRITER = pathlib.Path(__file__).parents[1] / "Integration" / "Inputs" / "make_tiny_llama.py"


def run(*arguments):
    return subprocess.run([BUILD / "bin" / "skim", *arguments], capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    if not (BUILD / "bin" / "skim-compiler").exists():
        pytest.skip("unsupported: skim-compiler is not built")
    folder = tmp_path_factory.mktemp("tiny")
    subprocess.run([sys.executable, WRITER, folder], check=True)
    run("quantize", folder / "model.onnx", "-o", folder / "tiny.skim", "--format", "k4", "--quantize-head", "w8")
    return folder / "tiny.skim"


def test_facts(package):
    model = skim.Model(str(package))
    assert (model.vocabulary, model.context, model.has_tokenizer, model.end_tokens) == (274, 96, True, [0])


def test_logits_are_those_of_the_program(package, tmp_path):
    tokens = [5, 6, 7, 200, 273, 0]
    (tmp_path / "ids").write_text(" ".join(map(str, tokens)) + "\n")
    run("logits", package, "--token-ids", tmp_path / "ids", "-o", tmp_path / "logits")
    data = (tmp_path / "logits").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    begin, end = json.loads(data[8 : 8 + length])["0"]["data_offsets"]
    expected = numpy.frombuffer(data[8 + length :][begin:end], numpy.float32).reshape(len(tokens), 274)
    assert (skim.Model(str(package), threads=1).logits(tokens) == expected).all()


def test_generated_tokens_are_those_of_the_program(package):
    expected = [int(word) for word in run("run", package, "--token-ids", "5 6 7", "--tokens", "20").split()]
    assert list(skim.Model(str(package)).generate([5, 6, 7], max_tokens=20)) == expected


def test_text(package):
    model = skim.Model(str(package))
    text = "the thing\nand the singer: 東京 🙂"
    ids = model.tokenize(text)
    assert len(ids) < len(text.encode()) and model.detokenize(ids) == text


def test_ids_that_cannot_be(package):
    model = skim.Model(str(package))
    with pytest.raises(skim.Error, match="token out of range"):
        model.logits([274])
    with pytest.raises(skim.Error, match="longer than"):
        model.session(capacity=4).prefill([1] * 5)
