"""Draws perplexity and KL against true bits: plot_compare.py compare.json OUT.svg"""

import json
import sys

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "skim"  # the same picture from the same numbers
import matplotlib.pyplot as plt  # noqa: E402  (after the backend is chosen)


def main(source, target):
    rows = [row for row in json.load(open(source))["rows"] if "eval" in row]
    texts = sorted(rows[0]["eval"])
    figure, axes = plt.subplots(len(texts), 2, figsize=(11, 4 * len(texts)), squeeze=False)
    for text, (left, right) in zip(texts, axes):
        base = [row for row in rows if row["target"] == 0]
        for method in dict.fromkeys(row["method"] for row in rows if row["target"] > 0):
            # A method may have the same package for two targets: one point.
            points = sorted({row["bits"]: row["eval"][text] for row in rows if row["method"] == method}.items(),
                            key=lambda point: point[0])
            bits = [point[0] for point in points]
            left.plot(bits, [scores["perplexity"] for _, scores in points], marker="o", label=method)
            right.errorbar(bits, [scores["kl_mean"] for _, scores in points],
                           yerr=[scores["kl_standard_error"] or 0 for _, scores in points], marker="o", label=method)
        for row in base:
            left.axhline(row["eval"][text]["perplexity"], color="grey", linestyle=":", label="16 bit")
        left.set_ylabel(f"perplexity of {text}")
        right.set_ylabel("KL from 16 bit (nats)")
        for axis in (left, right):
            axis.set_xlabel("true bits a weight")
            axis.set_yscale("log")
            axis.grid(True, which="both", alpha=0.3)
        left.legend()
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
