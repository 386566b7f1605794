//===- SkimOps.td - operations on encoded tensors -----------*- tablegen -*-===//
#ifndef SKIM_SKIM_OPS_TD
#define SKIM_SKIM_OPS_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/BuiltinAttributes.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "skim/Skim/SkimDialect.td"

class Skim_Op<string mnemonic, list<Trait> traits = []> : Op<Skim_Dialect, mnemonic, traits>;

// Activations, weights, encoded or not.
def Skim_FloatTensor : RankedTensorOf<[F16, BF16, F32, F64]>;
def Skim_IdTensor : RankedTensorOf<[I32, I64]>;

def Skim_ExternalOp : Skim_Op<"external", [Pure]> {
  let summary = "a large constant in a file";
  let description = [{
    The elements of `type` in `file` (relative to the module's folder), little
    endian, the first at byte `offset`; element (i, j, …) lies `strides[0]·i +
    strides[1]·j + …` elements behind it. Without `strides`: row-major. So a
    weight that a file holds transposed, or as columns of a packed one, needs no
    copy. `sha256`, where known, is of the elements in row-major order. IR never
    holds more than 64 KiB of tensor data; everything larger is one of these.

    Constraints:
    * (external_c1) offset is at least 0.
    * (external_c2) the type is not encoded (components are assembled).
    * (external_c3) one stride a dimension, each at least 0.
    * (external_c4) sha256 is 64 hexadecimal digits.
    * (external_c5) file is not empty.

    ```mlir
    %w = skim.external "model.onnx.data" offset = 4096 name = "model.norm.weight" : tensor<64xf32>
    %t = skim.external "model.onnx.data" offset = 4352 strides = [1, 64] : tensor<64x32xf32>
    ```
  }];
  let arguments = (ins StrAttr:$file, I64Attr:$offset, OptionalAttr<DenseI64ArrayAttr>:$strides,
                       OptionalAttr<StrAttr>:$sha256, OptionalAttr<StrAttr>:$name);
  let results = (outs AnyStaticShapeTensor:$result);
  let assemblyFormat = [{
    $file `offset` `=` $offset (`strides` `=` $strides^)? (`sha256` `=` $sha256^)? (`name` `=` $name^)? attr-dict `:` type($result)
  }];
  let hasVerifier = 1;
}

def Skim_AssembleOp : Skim_Op<"assemble", [Pure]> {
  let summary = "an encoded weight from its components";
  let description = [{
    Operands are the encoding's components, in the order and of the types that
    it states.

    Constraints:
    * (assemble_c1) the result is an encoded weight.
    * (assemble_c2) operands are as many as the encoding's components.
    * (assemble_c3) each operand has the component's type.

    ```mlir
    func.func @example(%codes: tensor<48x24xi8>, %table: tensor<48x8xf16>) {
      %w = skim.assemble %codes, %table
         : tensor<48x24xi8>, tensor<48x8xf16> to tensor<48x64xf16, #skim.codebook<bits = 3>>
      return
    }
    ```
  }];
  let arguments = (ins Variadic<AnyRankedTensor>:$components);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$components attr-dict `:` type($components) `to` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Skim_DisassembleOp : Skim_Op<"disassemble", [Pure]> {
  let summary = "the components of an encoded weight";
  let description = [{
    Results are the encoding's components, in the order and of the types that it
    states.

    Constraints:
    * (disassemble_c1) the operand is an encoded weight.
    * (disassemble_c2) results are as many as the encoding's components.
    * (disassemble_c3) each result has the component's type.

    ```mlir
    func.func @example(%w: tensor<48x64xf16, #skim.codebook<bits = 3>>) {
      %codes, %table = skim.disassemble %w
         : tensor<48x64xf16, #skim.codebook<bits = 3>> to tensor<48x24xi8>, tensor<48x8xf16>
      return
    }
    ```
  }];
  let arguments = (ins AnyRankedTensor:$input);
  let results = (outs Variadic<AnyRankedTensor>:$components);
  let assemblyFormat = "$input attr-dict `:` type($input) `to` type($components)";
  let builders = [
    // Result types from the encoding of `input`, which must be an encoded weight.
    OpBuilder<(ins "::mlir::Value":$input)>
  ];
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Skim_ConvertOp : Skim_Op<"convert", [Pure]> {
  let summary = "changes encoding or float type";
  let description = [{
    To a plain tensor or `dense`: decodes, each element rounded once to the
    result's float type from f32. From one: quantizes (a request to the quantize
    pass; only decoding has a reference).

    Constraints:
    * (convert_c1) operand and result have equal shapes.
    * (convert_c2) elements are floats.

    ```mlir
    func.func @example(%w: tensor<48x64xf16, #skim.codebook<bits = 3>>) {
      %d = skim.convert %w : tensor<48x64xf16, #skim.codebook<bits = 3>> to tensor<48x64xf32>
      return
    }
    ```
  }];
  let arguments = (ins Skim_FloatTensor:$input);
  let results = (outs Skim_FloatTensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `to` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Skim_LinearOp : Skim_Op<"linear", [Pure]> {
  let summary = "y = x·Wᵀ + bias";
  let description = [{
    `y[…,n] = Σ_k x[…,k]·W[n,k] + bias[n]`, any leading dimensions, W in any
    encoding or plain; sums in f32 at least. `layer` is the Hugging Face path of
    the layer, `onnx_name` the node that it came from, `mode` the activation mode
    (`f32`, `bf16`, `a8`; unset before code generation chooses): how a kernel may
    round on the way, which the reference does not follow. A bias is of the
    result's elements, or its type stands third: `: x, w, bias -> y`.

    Constraints:
    * (linear_c1) the weight has rank 2.
    * (linear_c2) input and result have equal rank of at least 1 and equal leading dimensions.
    * (linear_c3) the input's last dimension is the weight's K.
    * (linear_c4) the result's last dimension is the weight's N.
    * (linear_c5) bias, where given, is of shape [N].
    * (linear_c6) mode is f32, bf16 or a8.

    ```mlir
    func.func @example(%x: tensor<?x64xf16>, %w: tensor<48x64xf16, #skim.codebook<bits = 3>>, %b: tensor<48xf16>) {
      %y = skim.linear %x, %w : tensor<?x64xf16>, tensor<48x64xf16, #skim.codebook<bits = 3>> -> tensor<?x48xf16>
      %z = skim.linear %x, %w bias %b {layer = "model.layers.0.mlp.up_proj"}
         : tensor<?x64xf16>, tensor<48x64xf16, #skim.codebook<bits = 3>> -> tensor<?x48xf16>
      return
    }
    ```
  }];
  let arguments = (ins Skim_FloatTensor:$input, Skim_FloatTensor:$weight, Optional<Skim_FloatTensor>:$bias,
                       OptionalAttr<StrAttr>:$layer, OptionalAttr<StrAttr>:$onnx_name, OptionalAttr<StrAttr>:$mode);
  let results = (outs Skim_FloatTensor:$result);
  let assemblyFormat = [{
    $input `,` $weight (`bias` $bias^)? attr-dict
    `:` custom<LinearTypes>(ref($bias), type($input), type($weight), type($bias), type($result))
  }];
  let builders = [
    // The result's type from those of `input` and `weight`; its elements are the input's.
    OpBuilder<(ins "::mlir::Value":$input, "::mlir::Value":$weight, CArg<"::mlir::Value", "{}">:$bias)>
  ];
  let hasVerifier = 1;
  let hasCanonicalizer = 1;
}

def Skim_EmbedOp : Skim_Op<"embed", [Pure]> {
  let summary = "rows of a table";
  let description = [{
    `y[…,:] = W[ids[…],:]`, W [V, C] in any encoding or plain. An id outside
    [0, V) has no meaning: whoever takes ids from outside checks them.

    Constraints:
    * (embed_c1) ids are of i32 or i64.
    * (embed_c2) the table has rank 2.
    * (embed_c3) the result's shape is that of ids, then C.

    ```mlir
    func.func @example(%ids: tensor<?x?xi32>, %table: tensor<512x64xf32>) {
      %y = skim.embed %ids, %table : tensor<?x?xi32>, tensor<512x64xf32> -> tensor<?x?x64xf32>
      return
    }
    ```
  }];
  let arguments = (ins Skim_IdTensor:$ids, Skim_FloatTensor:$table,
                       OptionalAttr<StrAttr>:$layer, OptionalAttr<StrAttr>:$onnx_name);
  let results = (outs Skim_FloatTensor:$result);
  let assemblyFormat = "$ids `,` $table attr-dict `:` type($ids) `,` type($table) `->` type($result)";
  let builders = [
    OpBuilder<(ins "::mlir::Value":$ids, "::mlir::Value":$table)>
  ];
  let hasVerifier = 1;
  let hasCanonicalizer = 1;
}

def Skim_ObserveOp : Skim_Op<"observe", []> {
  let summary = "hands an activation to calibration";
  let description = [{
    Marks `input` as the shared input of the layers that `layer` names first;
    calibration accumulates its statistics here. Has no other effect.

    Constraints:
    * (observe_c1) input is a plain float tensor with a last dimension.
    * (observe_c2) layer is not empty.

    ```mlir
    func.func @example(%x: tensor<?x?x64xf32>) {
      skim.observe %x {layer = "model.layers.0.mlp.up_proj"} : tensor<?x?x64xf32>
      return
    }
    ```
  }];
  let arguments = (ins Skim_FloatTensor:$input, StrAttr:$layer);
  let assemblyFormat = "$input attr-dict `:` type($input)";
  let hasVerifier = 1;
}

#endif
