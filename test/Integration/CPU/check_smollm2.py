"""SmolLM2-135M from ONNX to perplexity.

    check_smollm2.py SHARED_DATA MODELS WORK_FOLDER [--full]

Unquantized, perplexity is the reference's within 0.1%. At equal code bits, exact
k-means weighted with the squared gradients of a little text has a lower KL from
the model than rounding. (Unweighted it is nearer to every weight, and yet worse
at 3 bits: docs/measurements.md.) What the quantized models measure is printed;
--full takes more text and more formats.
"""

import argparse
import json
import os
import subprocess
import sys


def skim(*arguments):
    result = subprocess.run(["skim", *arguments], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"skim {' '.join(arguments)}: {result.stderr}")
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("shared")
    parser.add_argument("models")
    parser.add_argument("work")
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args()
    model = os.path.join(options.models, "smollm2-135m-genai-fp32", "model.onnx")
    tokenizer = os.path.join(options.models, "smollm2-135m-ts17-past-fp16", "tokenizer.json")
    text = os.path.join(options.shared, "text/wikitext-2/test.txt")
    with open(os.path.join(options.shared, "models/smollm2-135m-genai-fp32/reference.json")) as file:
        expected = json.load(file)["perplexity"]

    base = os.path.join(options.work, "base.skim")
    skim("compile", model, "-o", base, "--tokenizer", tokenizer)
    found = json.loads(skim("eval", base, "--text", text, "--length", "512", "--sequences", "20", "--json").stdout)
    print(f"unquantized: perplexity {found['perplexity']:.4f} over {found['tokens']} tokens, reference {expected['value']:.4f} over {expected['tokens']}")
    if found["tokens"] != expected["tokens"] or not abs(found["perplexity"] / expected["value"] - 1) <= 1e-3:
        sys.exit(f"expected {expected}, got {found}")

    statistics = os.path.join(options.work, "statistics")
    skim("calibrate", model, "-o", statistics, "--tokenizer", tokenizer, "--text", os.path.join(options.shared, "text/c4.utf8"),
         "--sequences", "16" if options.full else "8", "--length", "256")
    errors, divergence = {}, {}
    for term in ["w3", "k3"] + (["w4", "k4", "w4g128", "w3g32a", "k2", "w2g32a"] if options.full else []):
        package = os.path.join(options.work, "quantized.skim")
        calibrated = ["--stats", statistics, "--method", "kmeans"] if term[0] == "k" else []
        summary = skim("quantize", model, "-o", package, "--format", term, "--tokenizer", tokenizer, *calibrated).stderr.splitlines()[-1]
        found = json.loads(skim("eval", package, "--text", text, "--length", "256", "--sequences", "20" if options.full else "4",
                                "--against", base, "--json").stdout)
        layers = json.loads(skim("inspect", package, "--json").stdout)["layers"]
        errors[term] = {layer["name"]: layer["error"] for layer in layers if layer["format"] == term}
        divergence[term] = found["kl_mean"]
        print(f"{term}: KL {found['kl_mean']:.4f}, perplexity {found['perplexity']:.3f}, same top token {found['top1_agreement']:.3f}; {summary.partition(': ')[2]}", flush=True)
    for codebook, uniform in [("k3", "w3")] + ([("k4", "w4")] if options.full else []):
        if len(errors[codebook]) != 210 or not divergence[codebook] < divergence[uniform]:
            sys.exit(f"expected {codebook} better than {uniform} by KL, got {divergence[codebook]} and {divergence[uniform]}")


main()
