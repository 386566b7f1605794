"""check-calibrated.py MODEL.mlir FOLDER"""
import re
import struct
import subprocess
import sys

model, folder = sys.argv[1:]


def errors(term, method, attribute):
    result = subprocess.run(["skim-opt", model, f"--skim-assign-encodings=format={term}",
                             f"--skim-quantize-weights=base={folder} weights={folder}/out.safetensors "
                             f"statistics={folder}/statistics method={method}"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    # MLIR prints the bits of a number that is no short decimal.
    found = [struct.unpack(">f", bytes.fromhex(value[2:]))[0] if value.startswith("0x") else float(value)
             for value in re.findall(rf"{attribute} = (0x[0-9A-F]+|[0-9.eE+-]+)", result.stdout)]
    assert len(found) == 2, result.stdout
    return found


def better(one, other, attribute="skim.loss_error"):
    for a, b in zip(errors(*one, attribute), errors(*other, attribute)):
        assert a < b, (one, other, a, b)


# Rounding keeps no error at the output: it is the quantizer without statistics.
better(("k3i", "skim"), ("k3i", "kmeans"))
better(("k2", "skim"), ("k2", "kmeans"))
better(("w4", "gptq"), ("w3", "gptq"))
better(("#skim.scaled<#skim.uniform<bits=4>>", "awq"), ("#skim.scaled<#skim.uniform<bits=3>>", "awq"))
better(("w4", "gptq"), ("#skim.scaled<#skim.uniform<bits=3>>", "awq"))
better(("w3", "rtn"), ("w3", "gptq"), "skim.error")
