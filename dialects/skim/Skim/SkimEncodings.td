//===- SkimEncodings.td - leaves and combinators ------------*- tablegen -*-===//
#ifndef SKIM_SKIM_ENCODINGS_TD
#define SKIM_SKIM_ENCODINGS_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/BuiltinAttributeInterfaces.td"
include "mlir/IR/TensorEncoding.td"
include "skim/Skim/SkimDialect.td"
include "skim/Skim/SkimInterfaces.td"

class Skim_Encoding<string name, string mnemonicText, list<Trait> traits = []>
    : AttrDef<Skim_Dialect, name, [VerifiableTensorEncoding,
        DeclareAttrInterfaceMethods<WeightEncodingInterface>] # traits> {
  let mnemonic = mnemonicText;
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    ::llvm::LogicalResult verifyEncoding(::llvm::ArrayRef<int64_t> shape, ::mlir::Type elementType,
        ::llvm::function_ref<::mlir::InFlightDiagnostic()> emitError) const;
  }];
  let extraClassDefinition = [{
    ::llvm::LogicalResult $cppClass::verifyEncoding(::llvm::ArrayRef<int64_t> shape, ::mlir::Type elementType,
        ::llvm::function_ref<::mlir::InFlightDiagnostic()> emitError) const {
      return ::skim::verifyTensorEncoding(*this, shape, elementType, emitError);
    }
  }];
}

def Skim_DenseAttr : Skim_Encoding<"Dense", "dense"> {
  let summary = "floats";
  let description = [{
    `w[n,k] = data[n,k]`, in f16, bf16 or f32.
    Components: `data` : tensor<NxKxT>.

    ```mlir
    tensor<48x64xf16, #skim.dense<bf16>>
    ```
  }];
  let parameters = (ins "::mlir::Type":$type);
}

def Skim_UniformAttr : Skim_Encoding<"Uniform", "uniform"> {
  let summary = "integers on a grid, with a scale a group";
  let description = [{
    `w[n,k] = s[n,g]·(q[n,k] − z[n,g])`, g = k / group (no group: the whole row).
    Symmetric (default): q ∈ [−2^(bits−1), 2^(bits−1)−1] and no z; the stored
    code is q + 2^(bits−1). `asymmetric`: q ∈ [0, 2^bits−1], z in `bits` bits,
    or a float with `zero = f16`.
    Components: `codes` : tensor<Nx⌈K·bits/8⌉xi8> (LSB first), `scales` :
    tensor<NxGxS> (S: `scale`, f16 by default), asymmetric: `zeros` :
    tensor<Nx⌈G·bits/8⌉xi8> or tensor<NxGxf16>.

    ```mlir
    tensor<48x64xf16, #skim.uniform<bits = 4, group = 32, asymmetric>>
    ```
  }];
  // group = 0: the row. zeroType: null unless `zero = …`. scaleType: f16 unless `scale = …`.
  let parameters = (ins "unsigned":$bits, "int64_t":$group, "bool":$asymmetric,
                        "::mlir::Type":$zeroType, "::mlir::Type":$scaleType);
  let extraClassDeclaration = [{
    /// Columns of a group, and groups in a row of K columns (the last may be short).
    int64_t getGroupSize(int64_t k) const { return getGroup() ? getGroup() : k; }
    int64_t getNumGroups(int64_t k) const { int64_t g = getGroupSize(k); return g ? (k + g - 1) / g : 0; }
    ::llvm::LogicalResult verifyEncoding(::llvm::ArrayRef<int64_t> shape, ::mlir::Type elementType,
        ::llvm::function_ref<::mlir::InFlightDiagnostic()> emitError) const;
  }];
}

def Skim_CodebookAttr : Skim_Encoding<"Codebook", "codebook"> {
  let summary = "codes into a table of 2^bits values";
  let description = [{
    `w[n,k] = T[n][q[n,k]]`; `scope = tensor`: one table T for all rows. With
    `table = i8`: `w = ts[n]·T[n][q]`, ts in f16.
    Components: `codes` : tensor<Nx⌈K·bits/8⌉xi8>, `table` : tensor<Nx2^bits xT>
    (scope = tensor: tensor<1x2^bits xT>), i8: `table_scale` : tensor<Nxf16>
    (tensor<1xf16>). Source: SKIM and SqueezeLLM.

    ```mlir
    tensor<48x64xf16, #skim.codebook<bits = 3, table = i8>>
    ```
  }];
  let parameters = (ins "unsigned":$bits, "::mlir::Type":$table, "bool":$tensorScope);
}

def Skim_BlockFloatAttr : Skim_Encoding<"BlockFloat", "block_float"> {
  let summary = "small elements under a shared exponent";
  let description = [{
    Blocks of `block` elements along K share an 8-bit exponent. `element = int`
    (default; LQER's MXINT): sign and magnitude in `bits` bits. `ocp_int`: the
    OCP Microscaling integer; `e2m1`: the OCP 4-bit float.
    Components: `codes` : tensor<Nx⌈K·bits/8⌉xi8>, `exponents` : tensor<Nx⌈K/block⌉xi8>.

    ```mlir
    tensor<48x64xf16, #skim.block_float<bits = 4, block = 16>>
    ```
  }];
  let parameters = (ins "unsigned":$bits, "int64_t":$block, "::skim::BlockElement":$element);
}

def Skim_PlanesAttr : Skim_Encoding<"Planes", "planes"> {
  let summary = "integers as bit planes (ABQ-LLM)";
  let description = [{
    `w[n,k] = s[n,g]·(q[n,k] − z[n,g])` with q in [0, levels−1], levels = 2^bits
    by default. `levels = 2^bits + 1` (ABQ-LLM's bit balance) is stored base
    `levels` where that is shorter: 5 levels as three codes in 7 bits.
    Components: `codes`, `scales` : tensor<NxGxf16>, `zeros` : tensor<NxGxi8>.

    ```mlir
    tensor<48x64xf16, #skim.planes<bits = 2, levels = 5>>
    ```
  }];
  let parameters = (ins "unsigned":$bits, "unsigned":$levels, "int64_t":$group);
}

def Skim_RowsAttr : Skim_Encoding<"Rows", "rows"> {
  let summary = "rows in several encodings, in storage order";
  let description = [{
    The first n₀ stored rows are in E₀, the next n₁ in E₁, …; stored row i is
    logical row `permutation[i]`.
    Components: those of each part (`rows.I.` …), then `permutation` :
    tensor<Nxi16> (unsigned; i32 above 65,536 rows). Source: SKIM's consolidation.

    ```mlir
    tensor<48x64xf16, #skim.rows<[#skim.codebook<bits = 2> : 16, #skim.codebook<bits = 3> : 32]>>
    ```
  }];
  let parameters = (ins ArrayRefParameter<"::mlir::Attribute">:$parts, ArrayRefParameter<"int64_t">:$counts);
}

def Skim_ScaledAttr : Skim_Encoding<"Scaled", "scaled"> {
  let summary = "a scaling vector over the columns";
  let description = [{
    `w[n,k] = inner[n,k]·α[k]`. Components: those of inner, then `alpha` :
    tensor<Kxf16>. Source: SKIM's trained scaling vector; ABQ-LLM's balance.

    ```mlir
    tensor<48x64xf16, #skim.scaled<#skim.codebook<bits = 3>>>
    ```
  }];
  let parameters = (ins "::mlir::Attribute":$inner);
}

def Skim_LowRankAttr : Skim_Encoding<"LowRank", "low_rank"> {
  let summary = "a low-rank correction of the quantization error";
  let description = [{
    `w[n,k] = base[n,k] + Σ_r B[n,r]·A[r,k]`, A [rank, K] and B [N, rank], each in
    the encoding `factors` along its last dimension. Components: those of base,
    then of A (`low_rank.a.` …) and B (`low_rank.b.` …). Source: LQER, L²QER.

    ```mlir
    tensor<48x64xf16, #skim.low_rank<#skim.block_float<bits = 4, block = 16>, rank = 8,
                                     factors = #skim.block_float<bits = 8, block = 16>>>
    ```
  }];
  let parameters = (ins "::mlir::Attribute":$base, "int64_t":$rank, "::mlir::Attribute":$factors);
}

def Skim_PerTokenAttr : AttrDef<Skim_Dialect, "PerToken", [VerifiableTensorEncoding]> {
  let mnemonic = "per_token";
  let summary = "activations and caches, quantized as they come";
  let description = [{
    `x[t,c] = s[t]·(q[t,c] − z[t])`, s (and z when `asymmetric`) found for each
    token, for a cache for each token and head.

    ```mlir
    tensor<8x64xf32, #skim.per_token<bits = 8>>
    ```
  }];
  let parameters = (ins "unsigned":$bits, "bool":$asymmetric);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    ::llvm::LogicalResult verifyEncoding(::llvm::ArrayRef<int64_t> shape, ::mlir::Type elementType,
        ::llvm::function_ref<::mlir::InFlightDiagnostic()> emitError) const;
  }];
}

#endif
