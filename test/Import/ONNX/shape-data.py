# RUN: mkdir -p %t && cd %t && %python %s && skim-translate --import-onnx model.onnx | FileCheck %s
#
# Shape chains are followed symbolically: heads are split and expanded without
# one, and the test for -1 in a shape is decided, since sizes are not negative.
from onnx_writer import *

ints = lambda name, *v: tensor(name, INT64, [len(v)], v)
scalar = lambda name, v: tensor(name, INT64, [], [v])
nodes = [
    node("Shape", ["x"], ["shape"]),
    node("Gather", ["shape", "zero"], ["batch"], axis=0),
    node("Gather", ["shape", "one"], ["length"], axis=0),
    node("Unsqueeze", ["batch", "axis0"], ["batch1"]),
    node("Unsqueeze", ["length", "axis0"], ["length1"]),
    node("Concat", ["batch1", "length1", "heads", "width"], ["split"], axis=0),
    node("Reshape", ["x", "split"], ["parts"]),
    node("Unsqueeze", ["parts", "axis2"], ["five"]),
    node("Concat", ["batch1", "length1", "two", "heads", "width"], ["target"], axis=0),
    node("ConstantOfShape", ["rank"], ["ones"], value=tensor("", INT64, [1], [1])),
    node("Mul", ["ones", "minus"], ["minus_ones"]),
    node("Equal", ["target", "minus_ones"], ["is_minus"]),
    node("Where", ["is_minus", "ones", "target"], ["checked"]),
    node("Expand", ["five", "checked"], ["y"]),
    node("Neg", ["x"], ["unused"]),
    # past + new
    node("Shape", ["past"], ["past_shape"]),
    node("Gather", ["past_shape", "one"], ["past_length"], axis=0),
    node("Add", ["past_length", "length"], ["total"]),
    node("Range", ["zero", "total", "one"], ["positions"]),
]
save("model.onnx", nodes, [value("x", FLOAT, ["batch", "new", 32]), value("past", FLOAT, ["batch", "past", 32])],
     [value("y", FLOAT, ["junk", "names", "of", "an", "output"]), value("positions", INT64)],
     [scalar("zero", 0), scalar("one", 1), ints("axis0", 0), ints("axis2", 2), ints("heads", 4), ints("width", 8),
      ints("two", 2), ints("rank", 5), scalar("minus", -1)])

# CHECK-LABEL: func.func @main
# CHECK-SAME: -> (tensor<?x?x2x4x8xf32> {onnx.dims = ["batch", "new", "2", "4", "8"], onnx.name = "y"}
# CHECK-SAME: tensor<?xi64> {onnx.dims = ["new + past"], onnx.name = "positions"})
# CHECK-DAG: %[[SPLIT:.*]] = arith.constant dense<[0, 0, 4, 8]> : tensor<4xi64>
# CHECK-DAG: %[[TWICE:.*]] = arith.constant dense<[1, 1, 2, 1, 1]> : tensor<5xi64>
# CHECK: onnx.node "Shape"(%arg0) {{.*}} values = ["batch", "new", "32"]}
# CHECK: %[[PARTS:.*]] = onnx.node "Reshape"(%arg0, %[[SPLIT]]) {{.*}} -> tensor<?x?x4x8xf32>
# CHECK: %[[FIVE:.*]] = onnx.node "Unsqueeze"(%[[PARTS]])
# CHECK-NOT: "Where"
# CHECK: %[[Y:.*]] = onnx.node "Expand"(%[[FIVE]], %[[TWICE]])
# CHECK: onnx.node "Add"({{.*}} values = ["new + past"]}
# CHECK-NOT: "Neg"
# CHECK: return
