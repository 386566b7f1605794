"""Budgets on the tiny model: check_budget.py FOLDER_WITH_MODEL, in an empty folder."""

import csv
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys

MODEL = os.path.join(sys.argv[1], "model.onnx")


def skim(*arguments):
    result = subprocess.run(["skim", *map(str, arguments)], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"skim {' '.join(map(str, arguments))}: status {result.returncode}: {result.stderr}")
    return result.stdout


def quantize(name, *options):
    skim("quantize", MODEL, "-o", name + ".skim", "--target", "cpu", *options)
    with open(name + ".skim/manifest.json") as file:
        return json.load(file)


def digest(name):
    with open(name + ".skim/weights.safetensors", "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def divergence(name):
    return json.loads(skim("eval", name + ".skim", "--token-ids", "ids", "--against", "base.skim", "--json"))["kl_mean"]


def check(condition, *what):
    if not condition:
        sys.exit(f"check failed: {what}")


with open("ids", "w") as file:
    for i in range(8):
        file.write(" ".join(str((7 * j * j + 3 * j * (i + 1) + 11 * i) % 270) for j in range(64)) + "\n")
with open("text", "w") as file:
    file.write("".join(f"the thing and {i * i} other lines in a row, {i % 7} and more.\n" for i in range(400)))
skim("compile", MODEL, "-o", "base.skim")
skim("calibrate", MODEL, "--token-ids", "ids", "-o", "stats")

# Budgets are never exceeded, and nearly used: rows of this model are a thousandth of it.
weights = None
for bits in (2.4, 3, 3.7, 5):
    manifest = quantize("b", "--bits", bits, "--stats", "stats")
    linears = [layer for layer in manifest["layers"] if layer["kind"] == "linear" and layer["name"] != "lm_head"]
    weights = sum(layer["shape"][0] * layer["shape"][1] for layer in linears)
    stored = sum(layer["bytes"] for layer in linears)
    check(abs(manifest["bits"] - 8 * stored / weights) < 1e-9, manifest["bits"], stored)
    check(bits * 0.99 < manifest["bits"] <= bits, bits, manifest["bits"])
    check(all(layer["loss_error"] > 0 and layer["output_error"] > 0 for layer in linears), linears[0])
base = json.load(open("base.skim/manifest.json"))["bytes"]["total"]
for size in (40000, 50000):
    manifest = quantize("s", "--size", size, "--stats", "stats")
    check(size * 0.99 < manifest["bytes"]["total"] <= size, size, manifest["bytes"])
    check(manifest["bytes"]["total"] < base, base)
    # The head is in the budget, one term for it and the embeddings; its bytes are none of the linears'.
    head = [layer for layer in manifest["layers"] if layer["name"] == "lm_head"][0]
    check("rows" not in head["format"] and head["format"] != "f16", head)
    plan = json.load(open("s.skim/plan.json"))
    check(plan["layers"]["lm_head"]["bytes"] + plan["bytes"] < manifest["bytes"]["total"], plan["bytes"], size)
    check(abs(manifest["bits"] - plan["bits"]) < 1e-9, manifest["bits"], plan["bits"])
manifest = quantize("s", "--size", 50000, "--stats", "stats", "--quantize-head", "w8")
check([layer["format"] for layer in manifest["layers"] if layer["name"] == "lm_head"] == ["w8"], "a head that was given")

# A dry run says what would be stored, and leaves nothing.
for options in (["--bits", 3, "--stats", "stats"], ["--size", 50000, "--stats", "stats"], ["--format", "k3", "--keep", "down_proj=w8"]):
    lines = skim("quantize", MODEL, "-o", "d.skim", *options, "--dry-run").splitlines()
    check(not [name for name in os.listdir(".") if name.startswith("d.skim")], os.listdir("."))
    planned = {line.split()[0]: int(line.split()[-2]) for line in lines}
    manifest = quantize("b", *options)
    stored = {layer["name"]: layer["bytes"] for layer in manifest["layers"]}
    check(len(planned) > 10 and all(stored[name] == size for name, size in planned.items()), planned, stored)

# The record of codes serves every budget; threads, and what was kept, do not change the bytes.
quantize("b", "--bits", 3, "--stats", "stats")
expected, record = digest("b"), os.stat("stats.record").st_mtime_ns
for threads in (1, 7):
    quantize("b", "--bits", 3, "--stats", "stats", "--threads", threads)
    check(digest("b") == expected, threads)
check(os.stat("stats.record").st_mtime_ns == record, "recorded twice")
quantize("b", "--plan", "b.skim/plan.json", "--stats", "stats")
check(digest("b") == expected, "from the plan")
os.remove("stats.record")
# By itself it calibrates with the model's own labels, and tunes.
skim("calibrate", MODEL, "--token-ids", "ids", "--labels", "model", "-o", "own")
quantize("b", "--bits", 3, "--stats", "own")
expected = digest("b")
quantize("b", "--bits", 3, "--token-ids", "ids", "--tune", 0)
check(digest("b") == expected, "calibrated by itself")
quantize("b", "--bits", 3, "--token-ids", "ids")
check(digest("b") != expected, "tuned by itself")
check(sorted(os.listdir("b.skim")) == sorted(set(os.listdir("b.skim")) & {"manifest.json", "model.mlirbc", "plan.json", "targets", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "weights.safetensors"}), os.listdir("b.skim"))

# Rows may be uniform codes, or share a table: where they are short, tables are most of what codebooks store.
quantize("b", "--bits", 3, "--stats", "stats")
three = divergence("b")
letters = "".join(layer["widths"] for layer in json.load(open("b.skim/plan.json"))["layers"].values())
check(set(letters) & set("abcdefghABCDEFGH") and set(letters) & set("ijklmnop"), sorted(set(letters)))
quantize("c", "--bits", 3, "--stats", "stats", "--method", "skim")
check(three < 0.9 * divergence("c"), "with uniform rows and shared tables", three, divergence("c"))

# More bits are better, and one layer can be kept out.
three = divergence("b")
quantize("b", "--bits", 5, "--stats", "stats")
check(divergence("b") < three, "5 bits")
manifest = quantize("b", "--bits", 4, "--stats", "stats", "--keep", "down_proj=w8")
check(all(layer["format"] == "w8" for layer in manifest["layers"] if "down_proj" in layer["name"]), "keep")
check(manifest["bits"] <= 4, manifest["bits"])

# Every method; single formats are the largest that fit.
for method in ("rtn", "gptq", "awq", "kmeans"):
    manifest = quantize("b", "--bits", 5.5, "--method", method, "--stats", "stats")
    check(4.5 < manifest["bits"] <= 5.5, method, manifest["bits"])
for options in ([], ["--no-mixing"], ["--no-alpha"], ["--no-mixing", "--no-alpha"]):
    manifest = quantize("b", "--bits", 6.5, "--as-published", "--stats", "stats", *options)
    check(4 < manifest["bits"] <= 6.5, options, manifest["bits"])

# Tuning brings the model nearer to the one that it is trained on, the same on any number of threads.
codebooks = divergence("c")
before = quantize("b", "--bits", 3, "--stats", "stats", "--method", "skim")
after = quantize("b", "--bits", 3, "--stats", "stats", "--method", "skim", "--token-ids", "ids", "--tune", 12, "--tune-rate", 0.4)
# The ledger tells of the tuned weights.
for old, new in zip(before["layers"], after["layers"]):
    if old["kind"] == "linear" and old["name"] != "lm_head":
        for key in ("error", "output_error", "loss_error"):
            check(0.2 < new[key] / old[key] < 5 and new[key] != old[key], key, old, new)
check(divergence("b") < 0.9 * codebooks, codebooks, divergence("b"))
quantize("b", "--bits", 3, "--stats", "stats", "--token-ids", "ids", "--tune", 12, "--tune-rate", 0.4)
check(divergence("b") < three, three, divergence("b"))
tuned = digest("b")
quantize("b", "--bits", 3, "--stats", "stats", "--token-ids", "ids", "--tune", 12, "--tune-rate", 0.4, "--threads", 7)
check(digest("b") == tuned, "tuned on 7 threads")

# Tables, scaling vectors and norms are trained; codes, embeddings and positions stay.
def stored(name):
    with open(name + ".skim/weights.safetensors", "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    return {name: data[slice(*entry["data_offsets"])] for name, entry in header.items() if not name.startswith("__")}
quantize("b", "--bits", 6.5, "--as-published", "--stats", "stats")
quantize("c", "--bits", 6.5, "--as-published", "--stats", "stats", "--token-ids", "ids", "--tune", 4)
old, new = stored("b"), stored("c")
trained = {name for name in old if old[name] != new[name]}
vectors = [name for name in old if name.startswith("constant")]
check(len(vectors) == 6 and len(trained & set(vectors)) == 5, vectors, trained)  # all but rotary frequencies
check(trained == {name for name in old if name.endswith((".table", ".alpha"))} | trained & set(vectors), trained)

# The comparison: a table, CSV, JSON and, with matplotlib, a picture. One pass over every text for all packages.
with open("other", "w") as file:
    file.write("".join(f"{i} more of the lines, in another order and shape; {i * 7 % 31}\n" for i in range(200)))
table = skim("compare", MODEL, "-o", "compared", "--text", "text", "--eval", "text", "other", "--bits", "4", "--methods", "rtn,auto", "--length", 64, "--sequences", 6, "--keep-packages")
check(len(table.splitlines()) == 4 and "+-" in table and "best" in table, table)
rows = list(csv.DictReader(open("compared/compare.csv")))
check([(row["method"], row["text"]) for row in rows] == [(m, t) for m in ("16 bit", "rtn", "auto") for t in ("other", "text")], rows)
check(all(float(row["bits"]) <= 4 and float(row["kl"]) > 0 for row in rows[4:]), rows)
compared = json.load(open("compared/compare.json"))
check(len(compared["rows"]) == 3, "json")
if importlib.util.find_spec("matplotlib"):
    # A method can have the same package for two targets: one point of the picture.
    check(os.path.getsize("compared/compare.svg") > 1000, "picture")
    compared["rows"].append(dict(compared["rows"][1], target=4.25))
    with open("twice.json", "w") as file:
        json.dump(compared, file)
    script = os.path.join(os.path.dirname(shutil.which("skim")), "../python/plot_compare.py")
    drawn = subprocess.run([sys.executable, script, "twice.json", "twice.svg"], capture_output=True, text=True)
    check(drawn.returncode == 0 and os.path.getsize("twice.svg") > 1000, drawn.stderr)
for text in ("text", "other"):
    one, two = ([row for row in rows if row["text"] == text and row["method"] == method][0] for method in ("rtn", "auto"))
    windows = [[float(value) for value in row["kl_windows"].split()] for row in (one, two)]
    check(all(len(values) == 6 for values in windows), windows)
    over = [row["kl_over_best"] for row in (one, two)]
    difference = sum(a - b for a, b in zip(*windows)) / 6
    check(over.count("") == 1 and abs(float("".join(over)) - abs(difference)) < 1e-12, over, difference)
    # What eval says of the package alone.
    alone = json.loads(skim("eval", "compared/auto-4.skim", "--text", text, "--length", 64, "--sequences", 6, "--against", "compared/base.skim", "--json"))
    check(alone["kl_windows"] == windows[1] and alone["perplexity"] == float(two["perplexity"]), alone)

# For people, mixed rows are named by their kinds' widths. Rows of 64 columns share tables: their own cost a quarter bit and more.
mixed = shared = 0
shown = {line.split()[0]: line.split()[1] for line in skim("inspect", "compared/auto-4.skim").splitlines() if line.strip()}
for layer in json.loads(skim("inspect", "compared/auto-4.skim", "--json"))["layers"]:
    if not layer["format"].startswith("#skim.rows"):
        continue
    mixed += 1
    kinds = {}
    for leaf, facts in sorted(re.findall(r"#skim\.(codebook|uniform)<([^>]*)>", layer["format"]), key=lambda part: part[0]):
        kind = "k" if leaf == "codebook" else "w"
        group = re.search(r"group = (\d+)", facts)
        suffix = ("i" if "table = i8" in facts else "") + ("t" if "scope = tensor" in facts else "")
        suffix += ("g" + group[1] if group else "") + ("a" if "asymmetric" in facts else "")
        shared += "scope = tensor" in facts
        kinds.setdefault((kind, suffix), []).append(int(re.search(r"bits = (\d+)", facts)[1]))
    names = [k + str(min(bits)) + (f"..{k}{max(bits)}" if max(bits) > min(bits) else "") + suffix for (k, suffix), bits in kinds.items()]
    check(shown[layer["name"]] == ",".join(names), shown[layer["name"]], layer["format"])
check(mixed > 0 and shared > 0, "rows of mixed terms, some with a shared table", mixed, shared)

# A program for a GPU holds a tied table once too, in tiles: the budget is of what the target maps: its file but for the header and what aligns tensors.
def tensors(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(entry["data_offsets"][1] - entry["data_offsets"][0] for name, entry in header.items() if not name.startswith("__"))
for size in (48000, 57000):  # at 59,204 every row has 8 bits
    manifest = quantize("g", "--size", size, "--stats", "stats", "--target", "cpu:portable", "--target", "nvidia-sim:sm_80")
    mapped = tensors("g.skim/targets/nvidia-sim-sm_80/weights.safetensors")
    check(tensors("g.skim/weights.safetensors") <= mapped <= size, mapped, size)
    check(mapped > 0.97 * size, mapped, size)
    skim("run", "g.skim", "--target", "nvidia-sim:sm_80", "--token-ids", "1 2 3", "--tokens", 2)
