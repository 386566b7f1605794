"""The Python module over the C interface, on the model written by hand."""

import ast
import pathlib
import threading

import numpy
import pytest
from conftest import VOCABULARY, expected_logits

skim = pytest.importorskip("skim", reason="unsupported: the Python module is not built")


@pytest.fixture
def model(package):
    return skim.Model(str(package), threads=2)


def test_facts(model):
    assert skim.__version__
    assert (model.name, model.target, model.vocabulary, model.context) == ("test", "cpu:test", VOCABULARY, 100)
    assert (model.capacity, model.max_rows, model.threads) == (100, 16, 2)
    assert (model.begin_token, model.end_tokens, model.has_tokenizer) == (1, [2], True)
    assert model.weight_bytes == 4 * VOCABULARY + 4


def test_logits_are_numpy(model):
    tokens = [5, 7, 39, 0, 11]
    logits = model.logits(tokens)
    assert logits.dtype == numpy.float32 and logits.shape == (5, VOCABULARY)
    for i in range(5):
        assert (logits[i] == expected_logits(tokens[: i + 1])).all()
    del model
    logits += 1  # its own memory, writable


@pytest.mark.parametrize(
    "kind",
    [
        list,
        tuple,
        iter,
        lambda t: numpy.array(t, numpy.int32),
        lambda t: numpy.array(t, numpy.int64),
        lambda t: numpy.repeat(numpy.array(t, numpy.uint16), 2)[::2],
    ],
)
def test_kinds_of_tokens(model, kind):
    tokens = [3, 14, 15]
    assert (model.logits(kind(tokens))[-1] == expected_logits(tokens)).all()


def test_sessions(model):
    session = model.session()
    assert (session.prefill([1, 2, 3]) == expected_logits([1, 2, 3])).all()
    assert (session.decode(4) == expected_logits([1, 2, 3, 4])).all()
    copy = session.fork()
    both = model.decode([session, copy], [8, 9])
    assert both.shape == (2, VOCABULARY)
    assert (both[0] == expected_logits([1, 2, 3, 4, 8])).all()
    assert (both[1] == expected_logits([1, 2, 3, 4, 9])).all()
    copy.truncate(2)
    assert len(copy) == copy.length == 2 and copy.capacity == 100
    assert copy.prefill([6, 6], logits="none") is None
    rows = copy.prefill([7, 8], logits="all")
    assert (rows[0] == expected_logits([1, 2, 6, 6, 7])).all()
    assert (rows[1] == expected_logits([1, 2, 6, 6, 7, 8])).all()
    made, logits = model.prefill([5])
    assert len(made) == 1 and (logits == expected_logits([5])).all()
    with model.session(capacity=7) as limited:
        assert limited.capacity == 7
    with pytest.raises(skim.Error, match="invalid argument at session"):
        limited.decode(1)


def test_sessions_outlive_their_model(package):
    session = skim.Model(str(package), threads=1).session()
    assert (session.prefill([9]) == expected_logits([9])).all()


def greedy(tokens, count):
    tokens = list(tokens)
    for _ in range(count):
        tokens.append(int(expected_logits(tokens).argmax()))
    return tokens[-count:]


def test_generate_ids(model):
    assert list(model.generate([4, 5], max_tokens=20)) == greedy([4, 5], 20)
    session = model.session()
    session.prefill([4])
    assert list(session.generate(numpy.array([5]), max_tokens=3)) == greedy([4, 5], 3)
    # The last generated token is not in the cache yet.
    assert len(session) == 4
    assert list(model.generate([4], max_tokens=0)) == []


def test_sampling_is_a_function_of_the_seed(model):
    def sample(seed, **more):
        return list(model.generate([4], max_tokens=30, temperature=1.0, seed=seed, **more))

    first = sample(3)
    assert first == sample(3)
    assert first != sample(4)
    assert sample(3, end_tokens=[first[5]]) == first[: first.index(first[5])]


def test_text(model):
    assert model.tokenize("abc") == [3, 4, 5]
    assert model.tokenize("a</s>b", parse_special=True) == [3, 2, 4]
    assert model.detokenize([3, 2, 4]) == "ab"
    assert model.detokenize(numpy.array([3, 2, 4]), keep_special=True) == "a</s>b"
    assert model.token_id("</s>") == 2 and model.token_id("nothing") is None
    ids = greedy([3, 4], 8)
    ids = ids[: ids.index(2)] if 2 in ids else ids
    assert "".join(model.generate("ab", max_tokens=8)) == model.detokenize(ids)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m: m.logits([1, 40]), "token out of range at token 1: expected an id from 0 to 39, got 40"),
        (lambda m: m.logits([2**32 + 5]), "token out of range at token 0: expected an id from 0 to 39, got -1"),
        (lambda m: m.logits([]), "empty input: expected at least one token, got 0"),
        (
            lambda m: m.logits([1] * 120),
            "text is longer than the session: expected at most 100 more tokens (0 of 100 are used), got 120 "
            "(this is the model's context)",
        ),
        (
            lambda m: m.session(101),
            "invalid capacity at session: expected 0 to the model's context of 100 tokens, got 101",
        ),
        (
            lambda m: m.session().prefill([1], logits="some"),
            "invalid argument at logits: expected 'last', 'all' or 'none', got 'some'",
        ),
        (
            lambda m: m.decode([m.session()], [1, 2]),
            "invalid argument at tokens: expected one for each of 1 sessions, got 2",
        ),
        (
            lambda m: list(m.generate([1], temperature=float("nan"))),
            "invalid sampling at temperature: expected a finite number, got nan",
        ),
    ],
)
def test_errors_are_one_line(model, call, message):
    with pytest.raises(skim.Error) as error:
        call(model)
    assert str(error.value) == message
    assert isinstance(error.value, RuntimeError)


@pytest.mark.parametrize("tokens", [["a"], [1.5], 3, None])
def test_wrong_types(model, tokens):
    with pytest.raises(TypeError):
        model.logits(tokens)


def test_no_package(tmp_path):
    with pytest.raises(skim.Error, match="cannot open a package at .*: expected a package folder"):
        skim.Model(str(tmp_path / "absent"))


def test_threads(model):
    wrong = []

    def work(seed):
        for i in range(10):
            tokens = [(seed * 7 + i + j) % VOCABULARY for j in range(5 + seed)]
            if not (model.logits(tokens)[-1] == expected_logits(tokens)).all():
                wrong.append(tokens)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_stubs_name_the_classes():
    stub = pathlib.Path(skim.__file__).with_name("_skim.pyi")
    names = {node.name for node in ast.parse(stub.read_text()).body if isinstance(node, ast.ClassDef)}
    assert {"Model", "Session", "Generation", "Error"} <= names
