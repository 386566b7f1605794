"""From an ONNX export to tokens in Python: a trained model of 260K parameters."""

import json
import os
import pathlib
import subprocess
import threading

import numpy
import pytest
from conftest import BUILD

skim = pytest.importorskip("skim", reason="unsupported: the Python module is not built")

SHARED = pathlib.Path(os.environ.get("SKIM_SHARED", pathlib.Path(__file__).parents[2] / ".." / "shared"))
EXPORT = SHARED / "data" / "models" / "stories260K-genai-fp32"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    if not EXPORT.is_dir():
        pytest.skip(f"unsupported: no {EXPORT.name} in shared/data/models")
    if not (BUILD / "bin" / "skim-compiler").exists():
        pytest.skip("unsupported: skim-compiler is not built")
    out = tmp_path_factory.mktemp("package") / "stories.skim"
    command = [BUILD / "bin" / "skim", "compile", EXPORT / "model.onnx", "-o", out]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return str(out)


@pytest.fixture(scope="module")
def model(compiled):
    return skim.Model(compiled, threads=2)


@pytest.fixture(scope="module")
def prompt():
    return [int(token) for token in numpy.load(EXPORT / "reference.npz")["case0.input_ids"][0]]


def test_logits_match_the_reference(model, prompt):
    reference = numpy.load(EXPORT / "reference.npz")["case0.logits"][0]
    assert numpy.abs(model.logits(prompt) - reference).max() < 2e-4


def test_greedy_tokens_match_the_reference(model):
    greedy = json.loads((EXPORT / "reference.json").read_text())["greedy"]
    assert list(model.generate(greedy["prompt"], max_tokens=len(greedy["continuation"]))) == greedy["continuation"]


def test_threads_do_not_change_a_bit(compiled, model, prompt):
    tokens = (prompt * 40)[:300]
    expected = model.logits(tokens)
    for threads in (1, 3):
        assert (skim.Model(compiled, threads=threads).logits(tokens) == expected).all()


def test_batches_forks_and_truncation(model, prompt):
    sessions = [model.session(capacity=40 + i) for i in range(5)]
    texts = [prompt[: 2 + i] for i in range(5)]
    for session, text in zip(sessions, texts):
        session.prefill(text, logits="none")
    together = model.decode(sessions, [7] * 5)
    for row, text in zip(together, texts):
        assert numpy.abs(row - model.logits(text + [7])[-1]).max() < 2e-4
    copy = sessions[4].fork(capacity=100)
    copy.truncate(3)
    assert numpy.abs(copy.decode(9) - model.logits(texts[4][:3] + [9])[-1]).max() < 2e-4


def probabilities(logits, temperature, top_k, top_p):
    """What skim_sample promises, in float64."""
    scaled = logits.astype(numpy.float64) / temperature
    p = numpy.exp(scaled - scaled.max())
    order = numpy.argsort(-logits, kind="stable")
    keep = order[: top_k or len(order)]
    p /= p[keep].sum()
    if top_p < 1:
        keep = keep[: int(numpy.searchsorted(numpy.cumsum(p[keep]), top_p)) + 1]
    cut = numpy.zeros_like(p)
    cut[keep] = p[keep] / p[keep].sum()
    return cut


@pytest.mark.parametrize("temperature, top_k, top_p", [(1.0, 0, 1.0), (0.7, 5, 1.0), (1.5, 0, 0.8), (1.0, 20, 0.5)])
def test_sampling_follows_the_distribution(model, prompt, temperature, top_k, top_p):
    session, logits = model.prefill(prompt)
    expected = probabilities(logits, temperature, top_k, top_p)
    session.truncate(len(prompt) - 1)
    counts = numpy.zeros(model.vocabulary)
    draws = 400
    for seed in range(draws):
        options = {"max_tokens": 1, "temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
        counts[next(session.generate(prompt[-1:], **options))] += 1
        session.truncate(len(prompt) - 1)
    assert (expected[counts > 0] > 0).all()
    assert numpy.abs(numpy.cumsum(counts / draws) - numpy.cumsum(expected)).max() < 0.1


def test_many_threads(model, prompt):
    expected = {n: model.logits(prompt[:n]) for n in range(2, 6)}
    wrong = []

    def work(n):
        for _ in range(5):
            if not (model.logits(prompt[:n]) == expected[n]).all():
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
