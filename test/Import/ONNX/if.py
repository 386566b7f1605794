# RUN: mkdir -p %t && cd %t && %python %s && skim-translate --import-onnx model.onnx | FileCheck %s
# RUN: cd %t && skim-translate --import-onnx model.onnx | skim-opt | FileCheck %s
#
# A condition that is known leaves one branch in place; another keeps both.
from onnx_writer import *

then = Graph([node("Neg", ["x"], ["t"])], outputs=[value("t", FLOAT)])
other = Graph([node("Mul", ["x", "two"], ["e"])], outputs=[value("e", FLOAT)],
              initializers=[tensor("two", FLOAT, [], [2.0])])
nodes = [
    node("Constant", [], ["yes"], value=tensor("", BOOL, [], [True])),
    node("If", ["yes"], ["known"], then_branch=then, else_branch=other),
    node("If", ["flag"], ["chosen"], name="choice", then_branch=then, else_branch=other),
]
save("model.onnx", nodes, [value("x", FLOAT, ["n"]), value("flag", BOOL, [])],
     [value("known", FLOAT), value("chosen", FLOAT)])

# CHECK-LABEL: func.func @main
# CHECK: %[[TWO:.*]] = arith.constant dense<2.000000e+00> : tensor<f32>
# CHECK: %[[KNOWN:.*]] = onnx.node "Neg"(%arg0)
# CHECK: %[[CHOSEN:.*]] = onnx.node "If"(%arg1) {{.*}} : (tensor<i1>) -> tensor<?xf32> {
# CHECK: %[[T:.*]] = onnx.node "Neg"(%arg0)
# CHECK: onnx.yield %[[T]] : tensor<?xf32>
# CHECK: }, {
# CHECK: %[[E:.*]] = onnx.node "Mul"(%arg0, %[[TWO]])
# CHECK: onnx.yield %[[E]] : tensor<?xf32>
# CHECK: return %[[KNOWN]], %[[CHOSEN]]
