//===- ONNXOps.td - the generic node ------------------------*- tablegen -*-===//
#ifndef SKIM_ONNX_OPS_TD
#define SKIM_ONNX_OPS_TD

include "mlir/IR/OpBase.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "skim/ONNX/ONNXDialect.td"

class ONNX_Op<string mnemonic, list<Trait> traits = []> : Op<ONNX_Dialect, mnemonic, traits>;

def ONNX_NodeOp : ONNX_Op<"node", [Pure]> {
  let summary = "an ONNX node";
  let description = [{
    `domain` is empty for ai.onnx; `opset` is 0 unless the node differs from what
    the dialect's description says. Attributes of the node are in
    `node_attributes`. An omitted optional input is a value of `onnx.none`; an
    omitted result has type none. The node's name is its location and `node_name`,
    the PyTorch module that made it `scope`. `shapes` holds the symbolic
    dimensions of each result that has dynamic ones, `values` the contents of an
    integer result (shape data) where they are known symbolically: equal text is
    an equal number. Subgraphs (If) are regions that end in `onnx.yield`.

    Constraints:
    * (node_c1) `op_type` is not empty.
    * (node_c2) `shapes` has one list of texts a result, empty or one text a
      dimension; the text of a static dimension is its number.
    * (node_c3) `values` stands beside one result, a static integer tensor, and
      has one text an element.
    * (node_c4) a body yields as many values as there are results.

    ```mlir
    func.func @example(%a: tensor<?x64xf32>, %b: tensor<64x512xf32>) {
      %y = onnx.node "MatMul"(%a, %b) {node_name = "/lm_head/MatMul", shapes = [["batch", "512"]]}
         : (tensor<?x64xf32>, tensor<64x512xf32>) -> tensor<?x512xf32>
      return
    }
    ```
  }];
  let arguments = (ins StrAttr:$op_type, Variadic<AnyType>:$inputs, DefaultValuedStrAttr<StrAttr, "">:$domain,
                       DefaultValuedAttr<I64Attr, "0">:$opset, OptionalAttr<StrAttr>:$node_name,
                       OptionalAttr<DictionaryAttr>:$node_attributes, OptionalAttr<StrAttr>:$scope,
                       OptionalAttr<ArrayAttr>:$shapes, OptionalAttr<StrArrayAttr>:$values);
  let results = (outs Variadic<AnyType>:$outputs);
  let regions = (region VariadicRegion<AnyRegion>:$bodies);
  let assemblyFormat = "$op_type `(` $inputs `)` attr-dict `:` functional-type($inputs, $outputs) $bodies";
  let hasVerifier = 1;
}

def ONNX_ConstantOp : ONNX_Op<"constant", [Pure, ConstantLike, AllTypesMatch<["value", "result"]>]> {
  let summary = "a small constant of an element type that arith does not know";
  let description = [{
    Unsigned integers, for instance; everything else is `arith.constant`.

    ```mlir
    %z = onnx.constant dense<[8, 8]> : tensor<2xui8>
    ```
  }];
  let arguments = (ins ElementsAttr:$value);
  let results = (outs AnyStaticShapeTensor:$result);
  let assemblyFormat = "attr-dict $value";
  let hasFolder = 1;
}

def ONNX_NoneOp : ONNX_Op<"none", [Pure]> {
  let summary = "an omitted optional input";
  let description = [{
    ```mlir
    %none = onnx.none
    ```
  }];
  let results = (outs NoneType:$result);
  let assemblyFormat = "attr-dict";
}

def ONNX_YieldOp : ONNX_Op<"yield", [Pure, Terminator, HasParent<"NodeOp">]> {
  let summary = "ends a subgraph";
  let description = [{
    Hands the values of one of a node's bodies to its results.

    ```mlir
    func.func @example(%condition: tensor<i1>, %t: tensor<?xf32>) {
      %y = onnx.node "If"(%condition) {node_name = "if"} : (tensor<i1>) -> tensor<?xf32> {
        onnx.yield %t : tensor<?xf32>
      }, {
        onnx.yield %t : tensor<?xf32>
      }
      return
    }
    ```
  }];
  let arguments = (ins Variadic<AnyType>:$results);
  let assemblyFormat = "($results^ `:` type($results))? attr-dict";
}

#endif
