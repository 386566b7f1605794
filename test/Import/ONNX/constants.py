# RUN: mkdir -p %t && cd %t && %python %s && skim-translate --import-onnx model.onnx | FileCheck %s
# RUN: cd %t && skim-translate --import-onnx model.onnx | skim-opt | FileCheck %s
#
# Large constants stay in their files, embedded or beside; small ones are dense;
# what depends on constants only is folded.
from onnx_writer import *

with open("model.onnx.data", "wb") as file:
    file.write(bytes(16384))
nodes = [
    node("Constant", [], ["half"], value=tensor("", FLOAT, [], [0.5])),
    node("Constant", [], ["two"], value_float=2.0),
    node("Constant", [], ["picks"], value_ints=[2, 0]),
    node("Constant", [], ["big"], value=tensor("", FLOAT, [300], [1.5] * 300)),
    node("Mul", ["half", "two"], ["one"]),
    node("Sqrt", ["quarter"], ["root"]),
    node("Gather", ["small", "picks"], ["picked"], axis=0),
    node("MatMul", ["x", "weight"], ["h"], name="/model/up_proj/MatMul"),
    node("Add", ["h", "big"], ["biased"]),
    node("Mul", ["biased", "one"], ["m"]),
    node("Mul", ["m", "root"], ["y"]),
    node("MatMulNBits", ["x", "codes", "scales", "zeros"], ["z"], domain="com.microsoft", K=8, N=2, bits=4,
         block_size=16),
]
save("model.onnx", nodes, [value("x", FLOAT, ["b", 8])],
     [value("y", FLOAT), value("z", FLOAT), value("picked", FLOAT)],
     [tensor("weight", FLOAT, [8, 300], external={"location": "model.onnx.data", "offset": 64}),
      tensor("quarter", FLOAT, [1], [0.25]), tensor("small", FLOAT, [3], [1.0, 2.0, 3.0]),
      tensor("codes", UINT8, [2, 1, 8], range(16)), tensor("scales", FLOAT, [2], [0.5, 0.25]),
      tensor("zeros", UINT8, [2], [7, 8])],
     opsets=[("com.microsoft", 1)])

# CHECK-LABEL: func.func @main
# CHECK-DAG: %[[W:.*]] = skim.external "model.onnx.data" offset = 64 name = "weight" : tensor<8x300xf32>
# CHECK-DAG: %[[BIG:.*]] = skim.external "model.onnx" offset = {{[0-9]+}} name = "big" : tensor<300xf32>
# CHECK-DAG: %[[ONE:.*]] = arith.constant dense<1.000000e+00> : tensor<f32>
# CHECK-DAG: %[[ROOT:.*]] = arith.constant dense<5.000000e-01> : tensor<1xf32>
# CHECK-DAG: %[[PICKED:.*]] = arith.constant dense<[3.000000e+00, 1.000000e+00]> : tensor<2xf32>
# CHECK-DAG: %[[CODES:.*]] = onnx.constant dense<{{.*}}> : tensor<2x1x8xui8>
# CHECK-DAG: %[[ZEROS:.*]] = onnx.constant dense<[7, 8]> : tensor<2xui8>
# CHECK: %[[H:.*]] = onnx.node "MatMul"(%arg0, %[[W]]) {node_name = "/model/up_proj/MatMul"
# CHECK: %[[B:.*]] = onnx.node "Add"(%[[H]], %[[BIG]])
# CHECK: %[[M:.*]] = onnx.node "Mul"(%[[B]], %[[ONE]])
# CHECK: %[[Y:.*]] = onnx.node "Mul"(%[[M]], %[[ROOT]])
# CHECK: %[[Z:.*]] = onnx.node "MatMulNBits"(%arg0, %[[CODES]], %{{.*}}, %[[ZEROS]]) {domain = "com.microsoft"
# CHECK: return %[[Y]], %[[Z]], %[[PICKED]]
