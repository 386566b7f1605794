# RUN: mkdir -p %t && cd %t && %python %s && skim-translate --import-onnx model.onnx | FileCheck %s
#
# Operands and results that are left out; normalization in the wrong domain; the
# module path that PyTorch leaves in a node's metadata.
from onnx_writer import *

ones = lambda name, n: tensor(name, FLOAT, [n], [1.0] * n)
scopes = [("pkg.torch.onnx.name_scopes", "['', 'model', 'model.layers.0.mlp', 'silu']")]
nodes = [
    node("SimplifiedLayerNormalization", ["x", "g"], ["n"], domain="com.microsoft", epsilon=1e-6),
    node("SkipSimplifiedLayerNormalization", ["x", "n", "g"], ["y", "", "", "sum"], domain="com.microsoft",
         epsilon=1e-6),
    node("GroupQueryAttention", ["y", "", "", "pk", "pv", "lengths", "total"], ["o", "ck", "cv"],
         domain="com.microsoft", num_heads=2, kv_num_heads=1),
    node("Clip", ["sum", "", "high"], ["c"], metadata=scopes),
]
cache = lambda name: value(name, FLOAT, ["batch", 1, "past", 4])
save("model.onnx", nodes,
     [value("x", FLOAT, ["batch", "new", 16]), cache("pk"), cache("pv"), value("lengths", INT32, ["batch"]),
      value("total", INT32, [])],
     [value("o", FLOAT), value("c", FLOAT), value("ck", FLOAT), value("cv", FLOAT)],
     [ones("g", 16), tensor("high", FLOAT, [], [6.0])], opsets=[("com.microsoft", 1)])

# CHECK-LABEL: func.func @main
# CHECK: %[[NONE:.*]] = onnx.none
# CHECK: %[[N:.*]] = onnx.node "SimplifiedLayerNormalization"(%arg0, %{{.*}}) {node_attributes = {axis = 2 : i64, epsilon = 9.99999997E-7 : f32}
# CHECK: %[[S:.*]]:4 = onnx.node "SkipSimplifiedLayerNormalization"(%arg0, %[[N]], %{{.*}}) {domain = "com.microsoft"
# CHECK-SAME: -> (tensor<?x?x16xf32>, none, none, tensor<?x?x16xf32>)
# CHECK: %[[A:.*]]:3 = onnx.node "GroupQueryAttention"(%[[S]]#0, %[[NONE]], %[[NONE]], %arg1, %arg2, %arg3, %arg4)
# CHECK-SAME: -> (tensor<?x?x8xf32>, tensor<?x1x?x4xf32>, tensor<?x1x?x4xf32>)
# CHECK: onnx.node "Clip"(%[[S]]#3, %[[NONE]], %{{.*}}) {{.*}}scope = "model.layers.0.mlp"
