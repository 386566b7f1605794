"""Perplexity of the trained llama2.c models as their references measured it.

    check_perplexity.py [--quantize] SHARED_DATA WORK_FOLDER MODEL…

The first 100 non-empty blocks of TinyStories, begin token first, cut to the
model's context; ids come from an own encoder, so that tokens cannot be wrong in
the same way twice. With --quantize, exact k-means must be nearer to the model
(KL) than rounding, at 3 and at 4 code bits a weight.
"""

import json
import os
import re
import struct
import subprocess
import sys

TOLERANCE = 1e-4  # relative; references are printed with more digits than that


def read_llama2c(path):
    """tok512.bin: score and bytes of every piece."""
    with open(path, "rb") as file:
        data = file.read()
    pieces, at = [], 4
    while at < len(data):
        score, length = struct.unpack_from("<fi", data, at)
        pieces.append((data[at + 8 : at + 8 + length].decode(), score))
        at += 8 + length
    return pieces


def read_vocab(path):
    """SentencePiece's text form: piece, tab, score."""
    with open(path, encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    return [(piece.replace("\u2581", " "), float(score)) for piece, score in rows]


class Encoder:
    def __init__(self, pieces):
        self.ids, self.scores = {}, [score for _, score in pieces]
        for i, (piece, _) in enumerate(pieces):
            self.ids.setdefault(piece, i)
        self.bytes = "<0x00>" in self.ids

    def encode(self, text):
        """Pairs of best score first, the leftmost of equal ones."""
        ids = []
        for char in " " + text:
            if char in self.ids:
                ids.append(self.ids[char])
            elif self.bytes:
                ids += [self.ids[f"<0x{byte:02X}>"] for byte in char.encode()]
            elif not ids or ids[-1] != 0:
                ids.append(0)
        names = {i: piece for piece, i in self.ids.items()}
        while True:
            best = None
            for at in range(len(ids) - 1):
                merged = self.ids.get(names[ids[at]] + names[ids[at + 1]])
                if merged is not None and (best is None or self.scores[merged] > self.scores[best[1]]):
                    best = at, merged
            if best is None:
                return ids
            ids[best[0] : best[0] + 2] = [best[1]]


def skim(*arguments):
    result = subprocess.run(["skim", *arguments], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"skim {' '.join(arguments)}: {result.stderr}")
    return result.stdout


def compare_quantizers(model, path, base, ids):
    package = base + ".quantized.skim"
    for uniform, codebook in (("w3", "k3"), ("w4", "k4")):
        found = {}
        for term in (uniform, codebook):
            skim("quantize", path, "-o", package, "--format", term)
            found[term] = json.loads(skim("eval", package, "--token-ids", ids, "--sequences", "40", "--against", base, "--json"))
        print(f"{model}: " + ", ".join(f"{term} KL {facts['kl_mean']:.4f} perplexity {facts['perplexity']:.4f}" for term, facts in found.items()))
        if not found[codebook]["kl_mean"] < found[uniform]["kl_mean"]:
            sys.exit(f"{model}: expected {codebook} better than {uniform}")


def main(shared, work, *models, quantize):
    os.makedirs(work, exist_ok=True)
    with open(os.path.join(shared, "text/tinystories_val_1k.txt"), encoding="utf-8") as file:
        blocks = [block.strip() for block in re.split(r"\n\s*\n", file.read())]
    blocks = [block for block in blocks if block][:100]
    encoders = {"stories260K": lambda: Encoder(read_llama2c(os.path.join(shared, "stories260K/tok512.bin"))),
                "babyllama-tok105": lambda: Encoder(read_vocab(os.path.join(shared, "babyllama-tok105/tok105.vocab")))}
    for model in models:
        folder = os.path.join(shared, "models", model)
        with open(os.path.join(folder, "reference.json")) as file:
            facts = json.load(file)
        length = facts["parameters"]["max_position_embeddings"]
        encoder = encoders[facts["source"]]()
        ids = os.path.join(work, model + ".ids")
        with open(ids, "w") as file:
            file.writelines(" ".join(map(str, [1, *encoder.encode(block)][:length])) + "\n" for block in blocks)
        package = os.path.join(work, model + ".skim")
        path = os.path.join(folder, "model.onnx")
        skim("compile", path, "-o", package)
        found, expected = json.loads(skim("eval", package, "--token-ids", ids, "--json")), facts["perplexity"]
        print(f"{model}: perplexity {found['perplexity']:.4f} over {found['tokens']} tokens, reference {expected['value']:.4f} over {expected['tokens']}")
        if found["tokens"] != expected["tokens"] or not abs(found["perplexity"] / expected["value"] - 1) <= TOLERANCE:
            sys.exit(f"{model}: expected {expected}, got {found}")
        if quantize:
            compare_quantizers(model, path, package, ids)


words = [word for word in sys.argv[1:] if word != "--quantize"]
main(*words, quantize=words != sys.argv[1:])
