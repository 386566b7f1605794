"""Looks at a folder of scripts/gpu-check, or at the results that its program wrote.

    check_folder.py folder DIR CHIP…       what must be in it, how large it is, what its program needs
    check_folder.py results RESULTS.json   all figures are there; ratios are those of the figures
    check_folder.py damage DIR CHIP        flips a bit of an expected result
"""

import gzip
import json
import pathlib
import re
import subprocess
import sys

MOST = 60_000_000
LIBRARIES = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "ld-linux-x86-64.so.2"}
GLIBC = (2, 36)  # Debian 12


def folder(path, *chips):
    path = pathlib.Path(path)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    assert size < MOST, size
    made = json.loads((path / "made.json").read_text())
    assert made["chips"] == list(chips) and made["version"], made
    names = {file.name for file in (path / "kernels").iterdir()}
    for chip in chips:
        assert {f"{chip}{file}" for file in (".ptx.gz", ".json", ".step.ptx.gz", ".step.json")} <= names, names
        for file in f"{chip}.ptx.gz", f"{chip}.step.ptx.gz":
            ptx = gzip.decompress((path / "kernels" / file).read_bytes()).decode()
            assert f".target {chip}" in ptx and ".entry" in ptx, file
        cases = json.loads((path / "kernels" / f"{chip}.json").read_text())
        keys = {device["key"] for device in cases["devices"]}
        assert keys, chip
        timed = [case for case in cases["cases"] if not case["check"]]
        assert timed and all(set(case["predicted"]) == keys for case in timed)
        assert all(one["microseconds"] > 0 for case in timed for one in case["predicted"].values())
    for package in json.loads((path / "packages/expected.json").read_text()):
        assert (path / "packages" / f"{package['name']}.skim" / "targets" / f"nvidia-{chips[0]}").is_dir()
    dynamic = subprocess.run(["readelf", "-dV", path / "gpu-check"], capture_output=True, text=True, check=True).stdout
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic))
    assert needed <= LIBRARIES, needed
    versions = {tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([0-9.]+)", dynamic)}
    assert max(versions) <= GLIBC, max(versions)


def near(a, b):
    return abs(a - b) <= 1e-9 * abs(b)


def results(path):
    found = json.loads(pathlib.Path(path).read_text())
    assert found["correct"] is True
    assert found["linears"] and all(one["correct"] and one["error_of_allowed"] <= 1 for one in found["linears"])
    assert found["packages"] and all(one["correct"] for one in found["packages"])
    assert found["read_gbps"] > 0 and found["copy_gbps"] > 0 and found["node_microseconds"] > 0
    assert found["nodes"] >= 64 and found["made"]["version"] and found["device"]["name"] and found["device"]["cuda"]
    prompt = found["step"]["prompt"]
    assert prompt["tokens"] >= 16 and near(prompt["prefill_tokens_per_s"], prompt["tokens"] / prompt["microseconds"] * 1e6)
    assert near(prompt["measured_of_predicted"], prompt["microseconds"] / prompt["predicted_microseconds"])
    for one in found["kernels"] + [found["step"]]:
        bytes_read = one.get("bytes", one.get("bytes_per_token"))
        assert near(one["limit_microseconds"], bytes_read / found["read_gbps"] * 1e-3)
        assert near(one["fraction_of_limit"], one["limit_microseconds"] / one["microseconds"])
        assert near(one["measured_of_predicted"], one["microseconds"] / one["predicted_microseconds"])
    for one in found["kernels"] + [prompt]:
        assert near(one["speedup_over_cublas_f16"], one["cublas_f16_microseconds"] / one["microseconds"])
    for one in found["kernels"]:
        assert one["copies"] * one["bytes"] > found["device"]["l2_bytes"]


def damage(path, chip):
    path = pathlib.Path(path) / "kernels"
    checked = [case for case in json.loads((path / f"{chip}.json").read_text())["cases"] if case["check"]]
    data = bytearray((path / "reference.bin").read_bytes())
    data[checked[-1]["expected"] + 3] ^= 0x80  # the first result's sign
    (path / "reference.bin").write_bytes(data)


{"folder": folder, "results": results, "damage": damage}[sys.argv[1]](*sys.argv[2:])
