# RUN: rm -rf %t && mkdir -p %t && cd %t && %python %s
# RUN: not skim-translate --import-onnx unsupported.onnx 2>&1 | FileCheck %s --check-prefix=UNKNOWN
# RUN: not skim-translate --import-onnx order.onnx 2>&1 | FileCheck %s --check-prefix=ORDER
# RUN: not skim-translate --import-onnx twice.onnx 2>&1 | FileCheck %s --check-prefix=TWICE
# RUN: not skim-translate --import-onnx shapes.onnx 2>&1 | FileCheck %s --check-prefix=SHAPES
# RUN: not skim-translate --import-onnx old.onnx 2>&1 | FileCheck %s --check-prefix=OPSET
# RUN: not skim-translate --import-onnx text.onnx 2>&1 | FileCheck %s --check-prefix=STRING
# RUN: not skim-translate --import-onnx types.onnx 2>&1 | FileCheck %s --check-prefix=TYPES
# RUN: not skim-translate --import-onnx cut.onnx 2>&1 | FileCheck %s --check-prefix=CUT
# RUN: not skim-translate --import-onnx absent.onnx 2>&1 | FileCheck %s --check-prefix=ABSENT
# RUN: not skim-translate --import-onnx outside.onnx 2>&1 | FileCheck %s --check-prefix=OUTSIDE
# RUN: not skim-translate --import-onnx short.onnx 2>&1 | FileCheck %s --check-prefix=SHORT
# RUN: not skim-translate --import-onnx training.onnx 2>&1 | FileCheck %s --check-prefix=TRAINING
from onnx_writer import *

x, y = value("x", FLOAT, ["b", 4]), value("y", FLOAT)
add = node("Add", ["x", "x"], ["y"])

# All at once, with counts, also those of subgraphs; before weights are looked at.
branch = Graph([node("Det", ["x"], ["d"])], outputs=[value("d", FLOAT)])
nodes = [node("QMoE", ["x"], [f"m{i}"], name=f"/model/layers.{i}/moe/QMoE", domain="com.microsoft") for i in range(3)]
nodes += [node("NonMaxSuppression", ["x"], ["n"]), node("If", ["c"], ["i"], then_branch=branch, else_branch=branch)]
save("unsupported.onnx", nodes + [add], [x, value("c", BOOL, [])], [y],
     [tensor("w", FLOAT, [4], external={"location": "absent"})], opsets=[("com.microsoft", 1)])
# UNKNOWN: error: unsupported com.microsoft::QMoE (opset 1) at node '/model/layers.0/moe/QMoE', 3 occurrences{{$}}
# UNKNOWN: error: unsupported ai.onnx::NonMaxSuppression (opset 17) at node of 'n', 1 occurrence{{$}}
# UNKNOWN: error: unsupported ai.onnx::Det (opset 17) at node of 'd', 2 occurrences{{$}}
# UNKNOWN-NOT: error

save("order.onnx", [node("Add", ["x", "later"], ["y"], name="first"), node("Neg", ["x"], ["later"])], [x], [y])
# ORDER: error: malformed Add at node 'first': expected every value defined before its use, got 'later'
save("twice.onnx", [add, node("Neg", ["x"], ["y"])], [x], [y])
# TWICE: error: malformed ONNX graph at node of 'y': expected every value defined once, got a second 'y'
save("shapes.onnx", [node("MatMul", ["x", "x"], ["y"], name="product")], [value("x", FLOAT, [3, 4])], [y])
# SHAPES: error: malformed MatMul at node 'product': expected one inner dimension, got [3][4]f32 and [3][4]f32
save("old.onnx", [add], [x], [y], opset=5)
# OPSET: error: unsupported ONNX model at old.onnx: expected opset 7 to 25 of ai.onnx, got opset 5
save("text.onnx", [add], [x, value("s", STRING, [1])], [y])
# STRING: error: unsupported input at input 's': expected a numeric tensor, got STRING
save("types.onnx", [add], [x], [value("y", INT64)])
# TYPES: error: malformed ONNX graph at output 'y': expected INT64, got [b][4]f32

save("cut.onnx", [add], [x], [y], [tensor("w", FLOAT, [4], [1.0] * 4)])
with open("cut.onnx", "rb") as file:
    whole = file.read()
with open("cut.onnx", "wb") as file:
    file.write(whole[:-40])
# CUT: error: malformed ONNX at model, byte {{[0-9]+}} of cut.onnx: expected protobuf fields

# An absent file is reported once, whatever is missing with it.
missing = [tensor(f"layers.{i}.weight", FLOAT, [4], external={"location": "absent.data", "offset": 16 * i})
           for i in range(3)]
save("absent.onnx", [add], [x], [y], missing)
# ABSENT: error: cannot open external data at {{.*}}absent.data of tensor 'layers.0.weight': expected a readable file, got No such file or directory
# ABSENT-NOT: error
save("outside.onnx", [add], [x], [y], [tensor("w", FLOAT, [4], external={"location": "../short.onnx"})])
# OUTSIDE: error: refused external data at location '../short.onnx' of tensor 'w': expected a path inside the model's folder, got '..'
with open("short.data", "wb") as file:
    file.write(bytes(100))
save("short.onnx", [add], [x], [y],
     [tensor("w", FLOAT, [4], external={"location": "short.data", "offset": 96, "length": 16})])
# SHORT: error: bad external data at tensor 'w' in 'short.data': expected offset 96 + length 16 within the file, got 100 bytes (the file may be truncated)

save("training.onnx", [node("Dropout", ["x", "ratio", "mode"], ["y"], name="drop")], [x], [y],
     [tensor("ratio", FLOAT, [], [0.5]), tensor("mode", BOOL, [], [True])])
# TRAINING: error: unsupported Dropout at node 'drop': expected Dropout for inference, got training_mode
