//===- SkimOps.td - operations on encoded tensors -----------*- tablegen -*-===//
#ifndef SKIM_SKIM_OPS_TD
#define SKIM_SKIM_OPS_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/BuiltinAttributes.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "skim/Skim/SkimDialect.td"

class Skim_Op<string mnemonic, list<Trait> traits = []> : Op<Skim_Dialect, mnemonic, traits>;

def Skim_ExternalOp : Skim_Op<"external", [Pure]> {
  let summary = "a large constant in a file";
  let description = [{
    The elements of `type` in `file` (relative to the module's folder), little
    endian, the first at byte `offset`; element (i, j, …) lies `strides[0]·i +
    strides[1]·j + …` elements behind it. Without `strides`: row-major. So a
    weight that a file holds transposed, or as columns of a packed one, needs no
    copy. `sha256`, where known, is of the elements in row-major order. IR never
    holds more than 64 KiB of tensor data; everything larger is one of these.

    ```mlir
    %w = skim.external "model.onnx.data" offset = 4096 name = "model.norm.weight" : tensor<64xf32>
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
  let summary = "an encoded tensor from its components";
  let description = [{
    Operands are the encoding's components, in the order and of the types that
    it states.

    ```mlir
    %w = skim.assemble %codes, %table : tensor<48x24xi8>, tensor<48x8xf16> to tensor<48x64xf16, #skim.codebook<bits = 3>>
    ```
  }];
  let arguments = (ins Variadic<AnyRankedTensor>:$components);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$components attr-dict `:` type($components) `to` type($result)";
  let hasVerifier = 1;
}

def Skim_DisassembleOp : Skim_Op<"disassemble", [Pure]> {
  let summary = "the components of an encoded tensor";
  let description = [{
    ```mlir
    %codes, %table = skim.disassemble %w : tensor<48x64xf16, #skim.codebook<bits = 3>> to tensor<48x24xi8>, tensor<48x8xf16>
    ```
  }];
  let arguments = (ins AnyRankedTensor:$input);
  let results = (outs Variadic<AnyRankedTensor>:$components);
  let assemblyFormat = "$input attr-dict `:` type($input) `to` type($components)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Skim_ConvertOp : Skim_Op<"convert", [Pure]> {
  let summary = "changes encoding or float type";
  let description = [{
    To a plain tensor or `dense`: decodes. From one: quantizes (a request to the
    quantize pass; only decoding has a reference).

    ```mlir
    %d = skim.convert %w : tensor<48x64xf16, #skim.codebook<bits = 3>> to tensor<48x64xf32>
    ```
  }];
  let arguments = (ins AnyRankedTensor:$input);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `to` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Skim_LinearOp : Skim_Op<"linear", [Pure]> {
  let summary = "y = x·Wᵀ + bias";
  let description = [{
    `y[…,n] = Σ_k x[…,k]·W[n,k] + bias[n]`, any leading dimensions, W in any
    encoding or plain. `layer` is the Hugging Face path of the layer,
    `onnx_name` the node that it came from, `mode` the activation mode (`f32`,
    `bf16`, `a8`; unset before code generation chooses).

    ```mlir
    %y = skim.linear %x, %w : tensor<?x64xf16>, tensor<48x64xf16, #skim.codebook<bits = 3>> -> tensor<?x48xf16>
    ```
  }];
  let arguments = (ins AnyRankedTensor:$input, AnyRankedTensor:$weight, Optional<AnyRankedTensor>:$bias,
                       OptionalAttr<StrAttr>:$layer, OptionalAttr<StrAttr>:$onnx_name, OptionalAttr<StrAttr>:$mode);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = [{
    $input `,` $weight (`bias` $bias^ `:` type($bias))? attr-dict
    `:` type($input) `,` type($weight) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Skim_EmbedOp : Skim_Op<"embed", [Pure]> {
  let summary = "rows of a table";
  let description = [{
    `y[…,:] = W[ids[…],:]`, W [V, C] in any encoding or plain.

    ```mlir
    %y = skim.embed %ids, %table : tensor<?x?xi32>, tensor<512x64xf32> -> tensor<?x?x64xf32>
    ```
  }];
  let arguments = (ins AnyRankedTensor:$ids, AnyRankedTensor:$table,
                       OptionalAttr<StrAttr>:$layer, OptionalAttr<StrAttr>:$onnx_name);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$ids `,` $table attr-dict `:` type($ids) `,` type($table) `->` type($result)";
  let hasVerifier = 1;
}

def Skim_ObserveOp : Skim_Op<"observe", []> {
  let summary = "hands an activation to calibration";
  let description = [{
    Marks `input` as the shared input of the layers that `layer` names first;
    calibration accumulates its statistics here. Has no other effect.

    ```mlir
    skim.observe %x {layer = "model.layers.0.mlp.up_proj"} : tensor<?x?x64xf32>
    ```
  }];
  let arguments = (ins AnyRankedTensor:$input, StrAttr:$layer);
  let assemblyFormat = "$input attr-dict `:` type($input)";
}

#endif
