# RUN: rm -rf %t && mkdir -p %t/model %t/ir && cd %t && %python %s
# RUN: skim import model/model.onnx -o ir/model.mlir && FileCheck %s --check-prefixes=CHECK,BESIDE < ir/model.mlir
# RUN: skim import model/model.onnx -o ir/model.mlirbc && skim-opt ir/model.mlirbc | FileCheck %s --check-prefixes=CHECK,BESIDE
# RUN: skim import model/model.onnx | FileCheck %s --check-prefixes=CHECK,HERE
# RUN: not skim import model/bad.onnx -o ir/bad.mlir 2>&1 | FileCheck %s --check-prefix=BAD
# RUN: not ls ir/bad.mlir
# RUN: not skim import absent.onnx -o ir/bad.mlir 2>&1 | FileCheck %s --check-prefix=ABSENT
#
# The IR finds its weights from wherever it is written to.
from onnx_writer import *

with open("model/model.onnx.data", "wb") as file:
    file.write(bytes(4096))
weight = tensor("weight", FLOAT, [16, 64], external={"location": "model.onnx.data"})
save("model/model.onnx", [node("MatMul", ["x", "weight"], ["y"])], [value("x", FLOAT, ["n", 16])],
     [value("y", FLOAT)], [weight])
save("model/bad.onnx", [node("Det", ["x"], ["y"], name="d")], [value("x", FLOAT, [4, 4])], [value("y", FLOAT)])

# CHECK: func.func @main
# BESIDE: skim.external "../model/model.onnx.data" offset = 0 name = "weight" : tensor<16x64xf32>
# HERE: skim.external "model/model.onnx.data" offset = 0 name = "weight" : tensor<16x64xf32>
# BAD: skim: error: unsupported ai.onnx::Det (opset 17) at node 'd', 1 occurrence
# ABSENT: skim: error: cannot open a file at absent.onnx: expected a readable file, got No such file or directory
