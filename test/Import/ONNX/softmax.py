# RUN: mkdir -p %t && cd %t && %python %s
# RUN: skim-translate --import-onnx softmax12.onnx | FileCheck %s --check-prefix=OLD
# RUN: skim-translate --import-onnx softmax13.onnx | FileCheck %s --check-prefix=NEW
#
# Before opset 13, Softmax flattens its operand to a matrix at `axis`.
from onnx_writer import *

for opset in 12, 13:
    nodes = [node("Softmax", ["x"], ["last"], axis=2), node("Softmax", ["x"], ["y"], axis=1)]
    save(f"softmax{opset}.onnx", nodes, [value("x", FLOAT, ["b", 4, 6])],
         [value("last", FLOAT), value("y", FLOAT)], opset=opset)

# OLD-LABEL: func.func @main
# OLD: %[[LAST:.*]] = onnx.node "Softmax"(%arg0) {node_attributes = {axis = 2 : i64}
# OLD: %[[FLAT:.*]] = onnx.node "Flatten"(%arg0) {node_attributes = {axis = 1 : i64}{{.*}} -> tensor<?x24xf32>
# OLD: %[[SOFT:.*]] = onnx.node "Softmax"(%[[FLAT]]) {node_attributes = {axis = 1 : i64}
# OLD: %[[BACK:.*]] = onnx.node "Reshape"(%[[SOFT]], %{{.*}}) {{.*}} -> tensor<?x4x6xf32>
# OLD: return %[[LAST]], %[[BACK]]

# NEW-LABEL: func.func @main
# NEW: onnx.node "Softmax"(%arg0) {node_attributes = {axis = 2 : i64}
# NEW: onnx.node "Softmax"(%arg0) {node_attributes = {axis = 1 : i64}
# NEW-NOT: Flatten
