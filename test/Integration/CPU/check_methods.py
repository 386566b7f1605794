"""Methods at equal true bits: check_methods.py TEXTS MODEL.onnx WORK_FOLDER

Of the order of methods only this is asserted: the default one diverges least from
the model, by more than three standard errors of the paired difference to each
other, with a little tuning. It keeps to the target; a baseline's formats come in
steps, and skim compare grants it the next one up to GRACE above.
"""

import json
import os
import subprocess
import sys

TARGET = 3.2  # codebooks of 3 bits fit with their tables
GRACE = 0.14

texts, model, work = sys.argv[1:4]
command = ["skim", "compare", model, "-o", work, "--text", os.path.join(texts, "c4.utf8"),
           "--eval", os.path.join(texts, "wikitext-2/test.txt"), "--bits", str(TARGET), "--tune", "10",
           "--length", "256", "--sequences", "16", "--json"]
result = subprocess.run(command, capture_output=True, text=True)
if result.returncode:
    sys.exit(f"{' '.join(command)}: {result.stderr}")
found = {}
for row in json.loads(result.stdout)["rows"]:
    if row["target"] == TARGET:
        (found[row["method"]],) = row["eval"].values()
        most = TARGET if row["method"] in ("auto", "skim-as-published") else TARGET + GRACE
        if not TARGET - 0.7 < row["bits"] <= most:
            sys.exit(f"{row['method']}: expected up to {most} true bits, got {row['bits']}")
if set(found) != {"rtn", "gptq", "awq", "kmeans", "skim-as-published", "auto"}:
    sys.exit(f"expected all methods, got {sorted(found)}")
for method, judged in found.items():
    print(f"{method}: KL {judged['kl_mean']:.4f} ± {judged['kl_standard_error']:.4f}")
    over, error = judged.get("kl_over_best"), judged.get("kl_over_best_standard_error")
    if method == "auto":
        if over is not None:
            sys.exit(f"expected auto to be the best, got {over} over the best")
    elif not over > 3 * error:
        sys.exit(f"expected auto better than {method} by three standard errors, got {over} ± {error}")
