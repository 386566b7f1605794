# RUN: mkdir -p %t && cd %t && %python %s
# RUN: skim-translate --import-onnx old.onnx | FileCheck %s --check-prefixes=CHECK,OLD
# RUN: skim-translate --import-onnx new.onnx | FileCheck %s --check-prefixes=CHECK,NEW
#
# The same graph in opset 9 and 18: attributes and operands arrive the same.
from onnx_writer import *

x = value("x", FLOAT, ["batch", 4, 6])
common = [
    node("Identity", ["x"], ["same"]),
    node("Concat", ["flat", "flat"], ["y"], axis=-1),
]
old = [
    node("Unsqueeze", ["same"], ["u"], axes=[-1, 0]),
    node("Squeeze", ["u"], ["q"], axes=[0]),
    node("ReduceSum", ["q"], ["sum"], axes=[-1]),
    node("ReduceMean", ["sum"], ["mean"], axes=[1], keepdims=0),
    node("Clip", ["mean"], ["clip"], min=0.0, max=6.0),
    node("Dropout", ["clip"], ["drop"], ratio=0.5),
    node("Split", ["same"], ["a", "b"], axis=1, split=[1, 3]),
    node("Slice", ["b"], ["flat"], starts=[0], ends=[3], axes=[2]),
]
save("old.onnx", [common[0], *old, common[1]], [x], [value("drop", FLOAT), value("y", FLOAT)], opset=9)
ints = lambda name, *v: tensor(name, INT64, [len(v)], v)
number = lambda name, v: tensor(name, FLOAT, [], [v])
new = [
    node("Unsqueeze", ["same", "u_axes"], ["u"]),
    node("Squeeze", ["u", "q_axes"], ["q"]),
    node("ReduceSum", ["q", "s_axes"], ["sum"]),
    node("ReduceMean", ["sum", "m_axes"], ["mean"], keepdims=0),
    node("Clip", ["mean", "low", "high"], ["clip"]),
    node("Dropout", ["clip", "ratio"], ["drop"]),
    node("Split", ["same", "parts"], ["a", "b"], axis=-2),
    node("Slice", ["b", "start", "end", "axes"], ["flat"]),
]
save("new.onnx", [common[0], *new, common[1]], [x, value("u_axes", INT64, [2])],
     [value("drop", FLOAT), value("y", FLOAT)],
     [ints("u_axes", -1, 0), ints("q_axes", 0), ints("s_axes", -1), ints("m_axes", 1), number("low", 0.0),
      number("high", 6.0), number("ratio", 0.5), ints("parts", 1, 3), ints("start", 0), ints("end", 3),
      ints("axes", 2)], opset=18)

# OLD: onnx.opsets = {ai.onnx = 9 : i64}
# NEW: onnx.opsets = {ai.onnx = 18 : i64}
# An input that is an initializer is no argument.
# CHECK-LABEL: func.func @main(
# CHECK-SAME: %[[X:[a-z0-9]+]]: tensor<?x4x6xf32> {onnx.dims = ["batch", "4", "6"], onnx.name = "x"})
# CHECK-NOT: Identity
# CHECK: %[[U:.*]] = onnx.node "Unsqueeze"(%[[X]]) {node_attributes = {axes = array<i64: 0, 4>}
# CHECK-SAME: -> tensor<1x?x4x6x1xf32>
# CHECK: %[[Q:.*]] = onnx.node "Squeeze"(%[[U]]) {node_attributes = {axes = array<i64: 0>}
# CHECK-SAME: -> tensor<?x4x6x1xf32>
# CHECK: %[[S:.*]] = onnx.node "ReduceSum"(%[[Q]]) {node_attributes = {axes = array<i64: 3>, keepdims = 1 : i64}
# CHECK: %[[M:.*]] = onnx.node "ReduceMean"(%[[S]]) {node_attributes = {axes = array<i64: 1>, keepdims = 0 : i64}
# CHECK: %[[C:.*]] = onnx.node "Clip"(%[[M]], %{{.*}}, %{{.*}}) {{.*}} : (tensor<?x6x1xf32>, tensor<f32>, tensor<f32>)
# CHECK-NOT: Dropout
# CHECK: %[[P:.*]]:2 = onnx.node "Split"(%[[X]]) {node_attributes = {axis = 1 : i64, split = array<i64: 1, 3>}
# CHECK: %[[F:.*]] = onnx.node "Slice"(%[[P]]#1, {{.*}} -> tensor<?x3x3xf32>
# CHECK: %[[Y:.*]] = onnx.node "Concat"(%[[F]], %[[F]]) {node_attributes = {axis = 2 : i64}
# CHECK: return %[[C]], %[[Y]]
