#!/usr/bin/env python3
"""Compares Skim's tokenizer with Hugging Face's `tokenizers`, id for id.

    compare.py TOKENIZE_LINES [--lines N] [--shared DIR] [--speed] [--only NAME]

TOKENIZE_LINES is the test helper test/tools/tokenize-lines. Small tokenizers
of many kinds are trained here, so that nothing else is needed; with --shared
(default: $SKIM_SHARED, else ../shared beside the repository) those of real
models are compared too. Ids, decoded text and streamed text must be equal on
every line. Exits 77 where `tokenizers` is not installed.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lines import mixed_lines, plain_text

try:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
except ImportError:
    print("unsupported: the Python package tokenizers is not installed")
    sys.exit(77)

REPOSITORY = Path(__file__).resolve().parents[3]

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
            r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def byte_level(pre_tokenizer, normalizer=None, vocab=1200, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"], show_progress=False)
    tokenizer.train_from_iterator(TRAINING, trainer)
    return tokenizer


def split(pattern, behavior="isolated", invert=False, use_regex=True):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern) if use_regex else pattern, behavior, invert),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def sentencepiece_like(normalizer=None, pre_tokenizer=None, **model):
    """As Llama 2's: ▁ for spaces, bytes for unknown characters."""
    bytes_tokens = [f"<0x{b:02X}>" for b in range(256)] if model.get("byte_fallback") else []
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", **model))
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(vocab_size=1200, special_tokens=["<unk>", "<s>", "</s>"] + bytes_tokens, show_progress=False,
                                  max_token_length=16)
    tokenizer.train_from_iterator(TRAINING, trainer)
    return tokenizer


def without_added(tokenizer, contents):
    """Drops added tokens that only served to get ids while training."""
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [t for t in data["added_tokens"] if t["content"] not in contents]
    return Tokenizer.from_str(json.dumps(data))


def tokenizers_of_all_kinds():
    yield "gpt2", byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
    yield "gpt2-prefix", byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True))
    yield "no-regex", byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    yield "digits", byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]))
    yield "digit-runs", byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.Punctuation("contiguous"),
        pre_tokenizers.ByteLevel(add_prefix_space=False)]))
    yield "llama3", byte_level(split(LLAMA3), ignore_merges=True)
    yield "qwen2-nfc", byte_level(split(QWEN2), normalizers.NFC())
    yield "o200k", byte_level(split(O200K))
    yield "deepseek", byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated"), pre_tokenizers.Split(Regex(r"[一-龥぀-ゟ゠-ヿ]+"), "isolated"),
        pre_tokenizers.Split(Regex(DEEPSEEK), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]))
    for form in ("NFD", "NFKC", "NFKD"):
        yield form.lower(), byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), getattr(normalizers, form)())
    yield "many-normalizers", byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.Sequence([
        normalizers.Strip(), normalizers.Nmt(), normalizers.NFKD(), normalizers.Lowercase(),
        normalizers.Replace(Regex(r"\s+"), " "), normalizers.Prepend("> ")]))
    yield "byte-normalizer", byte_level(pre_tokenizers.Split(Regex("Ġ"), "merged_with_next"), normalizers.ByteLevel())
    for behavior in ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"):
        for invert in (False, True):
            yield f"split-{behavior}-{invert}", byte_level(split(r"\s|[^\w\s]", behavior, invert))
    yield "split-string", byte_level(split(" ", "merged_with_previous", use_regex=False))
    yield "words", byte_level(split(r"\w+|\d+|\W|\b", "isolated"))
    yield "classes", byte_level(split(r"[\w&&[^aeiou\d]]+|[[a-m]\d]+|[^\S\n]++|\h{2}|\p{Han}+|\p{^L}|(?i)THE|o{1,2}+", "isolated"))
    yield "whitespace", byte_level(pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(False, use_regex=False)]))
    yield "bert-words", byte_level(pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), pre_tokenizers.ByteLevel(True, use_regex=False)]))
    yield "whitespace-split", byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.CharDelimiterSplit("e"), pre_tokenizers.ByteLevel(False)]))
    byte_names = [f"<0x{b:02X}>" for b in range(256)]
    llama = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    yield "llama2", without_added(sentencepiece_like(llama, byte_fallback=True, fuse_unk=True), byte_names)
    yield "unknown", sentencepiece_like(llama, fuse_unk=False)
    yield "unknown-fused", sentencepiece_like(llama, fuse_unk=True)
    for scheme in ("always", "first", "never"):
        tokenizer = without_added(sentencepiece_like(None, pre_tokenizers.Metaspace("▁", scheme, split=scheme != "first"),
                                                     byte_fallback=True, fuse_unk=True), byte_names)
        tokenizer.decoder = decoders.Metaspace("▁", scheme)
        yield f"metaspace-{scheme}", tokenizer
    added = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.NFC())
    added.add_special_tokens([AddedToken("<s>", lstrip=True, rstrip=True), AddedToken("</s>", normalized=True)])
    added.add_tokens([AddedToken("<tool>", lstrip=True), AddedToken("<mask>", rstrip=True, normalized=False),
                      AddedToken("the", single_word=True), AddedToken("them", single_word=False), AddedToken("é", normalized=True)])
    added.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[
        ("<s>", added.token_to_id("<s>")), ("</s>", added.token_to_id("</s>"))])
    yield "added", added


def real_tokenizers(shared):
    for name, path in (("smollm2", "data/models/smollm2-135m-ts17-past-fp16/tokenizer.json"),
                       ("llama2-genai", "data/onnx/genai-tiny-random-llama-fp16/tokenizer.json")):
        if (shared / path).exists():
            yield name, Tokenizer.from_file(str(shared / path))


def run(helper, path, lines, *options):
    result = subprocess.run([helper, path, *options], input="".join(json.dumps(line) + "\n" for line in lines),
                            capture_output=True, text=True, encoding="utf-8")
    if result.returncode != 0:
        raise RuntimeError(result.stderr.strip() or f"exit status {result.returncode}")
    return [json.loads(line) for line in result.stdout.split("\n") if line]


def compare(helper, name, tokenizer, lines):
    tokenizer.no_truncation()
    tokenizer.no_padding()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "tokenizer.json")
        tokenizer.save(path)
        for add in (False, True):
            for parse in (False, True):
                tokenizer.encode_special_tokens = not parse
                options = ["--add-special"] * add + ["--parse-special"] * parse
                some = lines if add == parse else lines[:len(lines) // 10]
                expected = [e.ids for e in tokenizer.encode_batch(some, add_special_tokens=add)]
                got = run(helper, path, some, *options)
                for line, ids, mine in zip(some, expected, got):
                    text = tokenizer.decode(ids)
                    # tokenizers replaces a whole run of byte tokens where one is damaged; a stream cannot know that.
                    streams = "\ufffd" in text or mine["stream"] == text
                    if ids != mine["ids"] or text != mine["text"] or not streams:
                        wrong += 1
                        if wrong <= 3:
                            print(f"{name} {options} differs on {line!r}\n  expected {ids} {text!r}\n  got      {mine}")
    return wrong


def speed(helper, name, tokenizer, text):
    lines = text.splitlines(keepends=True)
    paragraphs = ["".join(lines[i:i + 40]) for i in range(0, len(lines), 40)]
    size = len(text.encode())
    best = min(timed(lambda: [tokenizer.encode(p, add_special_tokens=False) for p in paragraphs]) for _ in range(3))
    whole = min(timed(lambda: tokenizer.encode(text, add_special_tokens=False)) for _ in range(2))
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "tokenizer.json")
        tokenizer.save(path)
        mine = run(helper, path, paragraphs, "--repeat", "3")[0]
        mine_whole = run(helper, path, [text], "--repeat", "2")[0]
    print(f"{name}: {size / 1e6:.1f} MB, one thread: skim {size / mine['seconds'] / 1e6:.1f} MB/s, tokenizers "
          f"{size / best / 1e6:.1f} MB/s; as one text: skim {size / mine_whole['seconds'] / 1e6:.1f}, tokenizers "
          f"{size / whole / 1e6:.1f} MB/s; loaded in {mine['load_seconds'] * 1e3:.0f} ms")


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("helper")
    parser.add_argument("--lines", type=int, default=10000)
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("SKIM_SHARED", REPOSITORY.parent / "shared")))
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--only")
    arguments = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"

    real = dict(real_tokenizers(arguments.shared))
    if not real:
        print(f"unsupported: no tokenizers of real models under {arguments.shared}")
    if arguments.speed:
        text_file = arguments.shared / "data/text/wiki.utf8"
        text = text_file.read_text(encoding="utf-8") if text_file.exists() else plain_text(2_000_000)
        for name, tokenizer in real.items() or [("gpt2", next(tokenizers_of_all_kinds())[1])]:
            speed(arguments.helper, name, tokenizer, text)
        return 0

    lines = mixed_lines(arguments.lines)
    failed = 0
    for name, tokenizer in [*real.items(), *tokenizers_of_all_kinds()]:
        if arguments.only and arguments.only not in name:
            continue
        # Every kind sees a tenth; the real ones and the plainest see every line.
        some = lines if name in real or name == "gpt2" else lines[::10]
        try:
            wrong = compare(arguments.helper, name, tokenizer, some)
        except RuntimeError as error:
            print(f"{name}: {error}")
            wrong = len(some)
        print(f"{name}: {len(some)} lines, {wrong or 'none'} different", flush=True)
        failed += wrong > 0
    return 1 if failed else 0


TRAINING = plain_text(200_000).splitlines(keepends=True) + mixed_lines(3000, seed=3)

if __name__ == "__main__":
    sys.exit(main())
