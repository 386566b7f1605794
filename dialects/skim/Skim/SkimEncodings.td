//===- SkimEncodings.td - leaves and combinators ------------*- tablegen -*-===//
#ifndef SKIM_SKIM_ENCODINGS_TD
#define SKIM_SKIM_ENCODINGS_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/BuiltinAttributeInterfaces.td"
include "mlir/IR/TensorEncoding.td"
include "skim/Skim/SkimDialect.td"
include "skim/Skim/SkimInterfaces.td"

// A term of the grammar weight := low_rank? scaled? rows? leaf.
//
// Constraints on the tensor, of every term:
//   weight_c1: the element type is f16, bf16 or f32.
//   weight_c2: the shape is static, of rank 2, with positive sizes below 2^31
//              (block_float also encodes activations: of any rank, the last
//              dimension static and positive).
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
    `w[n,k] = data[n,k]`.

    Components: `data` : tensor<NxKxT>. Bits: N·K·width(T).

    Constraints:
    * (dense_c1) T is f16, bf16 or f32.

    ```mlir
    tensor<48x64xf16, #skim.dense<bf16>>
    ```
  }];
  let parameters = (ins "::mlir::Type":$type);
}

def Skim_UniformAttr : Skim_Encoding<"Uniform", "uniform"> {
  let summary = "integers on a grid, with a scale a group";
  let description = [{
    `w[n,k] = s[n,g]·(q[n,k] − z[n,g])`, g = k / group; without `group` the whole
    row is one group. G = ⌈K/group⌉ groups, the last may be short.
    * symmetric (default): q ∈ [−2^(bits−1), 2^(bits−1)−1], no z; the stored code
      is q + 2^(bits−1);
    * `asymmetric`: q ∈ [0, 2^bits−1] is the stored code, z in `bits` bits, or a
      float with `zero = f16` (or f32).

    Components: `codes` : tensor<Nx⌈K·bits/8⌉xi8>, LSB first, a row padded to
    whole bytes; `scales` : tensor<NxGxS>, S from `scale`, f16 by default;
    asymmetric: `zeros` : tensor<Nx⌈G·bits/8⌉xi8>, packed like codes, or
    tensor<NxGxZ> with `zero = Z`.
    Bits: N·(8⌈K·bits/8⌉ + G·width(S)) and the zeros' likewise.

    Constraints:
    * (uniform_c1) bits from 1 to 8.
    * (uniform_c2) group is positive and below 2^31 where given.
    * (uniform_c3) `zero` only beside `asymmetric`; it is f16 or f32.
    * (uniform_c4) `scale` is f16 or f32.

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
    `w[n,k] = T[n][q[n,k]]`; `scope = tensor`: one table for all rows. With
    `table = i8`: `w[n,k] = ts[n]·T[n][q[n,k]]`, T signed, ts in f16.

    Components: `codes` : tensor<Nx⌈K·bits/8⌉xi8>, LSB first, a row padded to
    whole bytes; `table` : tensor<Rx2^bits xT>, R = N, or 1 with `scope = tensor`;
    with `table = i8` also `table_scale` : tensor<Rxf16>.
    Bits: 8N⌈K·bits/8⌉ + R·2^bits·width(T) (+ 16R). Source: SqueezeLLM, SKIM.

    Constraints:
    * (codebook_c1) bits from 1 to 8.
    * (codebook_c2) table is f16, bf16 or i8.
    * (codebook_c3) scope is row (the default) or tensor.

    ```mlir
    tensor<48x64xf16, #skim.codebook<bits = 3, table = i8>>
    tensor<48x64xf16, #skim.codebook<bits = 4, scope = tensor>>
    ```
  }];
  let parameters = (ins "unsigned":$bits, "::mlir::Type":$table, "bool":$tensorScope);
}

def Skim_BlockFloatAttr : Skim_Encoding<"BlockFloat", "block_float"> {
  let summary = "small elements under a shared exponent";
  let description = [{
    Blocks of `block` elements along K share a stored byte E; e = E − 127.
    * `element = int` (default; MXINT of LQER): the code's top bit is the sign,
      the others the magnitude m: `w = ±m·2^(e−bits+1)`, so 4 bits reach ±7 and 2
      bits are ternary. LQER takes e = ⌈log2 max|block|⌉.
    * `element = ocp_int` (OCP Microscaling): two's complement q with bits − 2
      fraction bits, `w = q·2^(e−bits+2)`; E = 255 is NaN.
    * `element = e2m1` (OCP 4-bit float): sign, then 0, ½, 1, 1½, 2, 3, 4, 6;
      `w = ±v·2^e`; E = 255 is NaN.

    Components: `codes` : tensor<Nx⌈K·bits/8⌉xi8>, LSB first, a row padded to
    whole bytes; `exponents` : tensor<Nx⌈K/block⌉xi8>.
    Bits: 8N(⌈K·bits/8⌉ + ⌈K/block⌉). Serves as an encoding of activations too: E is found for each block at run time
    (⌈log2 max⌉ for `int`, ⌊log2 max⌋ minus the largest element's exponent for the
    others), codes round to nearest, ties to even, and saturate.

    Constraints:
    * (block_float_c1) bits from 2 to 8.
    * (block_float_c2) block is positive and below 2^31.
    * (block_float_c3) e2m1 has 4 bits.

    ```mlir
    tensor<48x64xf16, #skim.block_float<bits = 4, block = 16>>
    tensor<?x?x64xf32, #skim.block_float<bits = 8, block = 32, element = ocp_int>>
    ```
  }];
  let parameters = (ins "unsigned":$bits, "int64_t":$block, "::skim::BlockElement":$element);
}

def Skim_PlanesAttr : Skim_Encoding<"Planes", "planes"> {
  let summary = "integers as bit planes (ABQ-LLM)";
  let description = [{
    `w[n,k] = s[n,g]·(q[n,k] − z[n,g])`, q in [0, levels−1]; levels = 2^bits by
    default, or 2^bits + 1 (ABQ-LLM's bit balance: one level more). Groups as in
    `uniform`.

    Components: `codes` : tensor<NxCxi8>, `scales` : tensor<NxGxf16>, `zeros` :
    tensor<NxGxi8> (unsigned). A row of codes is P = ⌈log2 levels⌉ planes one
    after another, the lowest bit's first; bit k of a plane is column k, LSB
    first, each plane padded to whole bytes: C = P·⌈K/8⌉. Five levels lie base 5
    instead: codes 3i, 3i+1, 3i+2 are a 7-bit number q₀ + 5q₁ + 25q₂ (absent ones
    0), the numbers LSB first: C = ⌈7⌈K/3⌉/8⌉.
    Bits: N·(8C + 16G + 8G).

    Constraints:
    * (planes_c1) bits from 1 to 8.
    * (planes_c2) levels is 2^bits or 2^bits + 1.
    * (planes_c3) group is positive and below 2^31 where given.

    ```mlir
    tensor<48x64xf16, #skim.planes<bits = 2, levels = 5>>
    ```
  }];
  let parameters = (ins "unsigned":$bits, "unsigned":$levels, "int64_t":$group);
  let extraClassDeclaration = [{
    /// True if codes lie base 5, three in 7 bits, rather than in planes.
    bool isBaseFive() const { return getLevels() == 5; }
    /// Bit planes that a row has (if it has any).
    unsigned getNumPlanes() const { return getLevels() > 1u << getBits() ? getBits() + 1 : getBits(); }
    int64_t getGroupSize(int64_t k) const { return getGroup() ? getGroup() : k; }
    int64_t getNumGroups(int64_t k) const { int64_t g = getGroupSize(k); return g ? (k + g - 1) / g : 0; }
    ::llvm::LogicalResult verifyEncoding(::llvm::ArrayRef<int64_t> shape, ::mlir::Type elementType,
        ::llvm::function_ref<::mlir::InFlightDiagnostic()> emitError) const;
  }];
}

def Skim_RowsAttr : Skim_Encoding<"Rows", "rows"> {
  let summary = "rows in several encodings, in storage order";
  let description = [{
    The first n₀ stored rows are in E₀, the next n₁ in E₁, …; stored row i is
    logical row `permutation[i]`.

    Components: those of each part (`rows.0.` …, `rows.1.` …), then `permutation` :
    tensor<Nxi16>, unsigned (i32 above 65,536 rows).
    Bits: the parts' and 16 (32) a row. Source: SKIM's consolidation of rows of
    equal width.

    Constraints:
    * (rows_c1) at least one part, each with a positive number of rows.
    * (rows_c2) the parts are leaves.
    * (rows_c3) the numbers of rows sum to N.

    ```mlir
    tensor<48x64xf16, #skim.rows<[#skim.codebook<bits = 2> : 16, #skim.codebook<bits = 3> : 32]>>
    ```
  }];
  let parameters = (ins ArrayRefParameter<"::mlir::Attribute">:$parts, ArrayRefParameter<"int64_t">:$counts);
}

def Skim_ScaledAttr : Skim_Encoding<"Scaled", "scaled"> {
  let summary = "a scaling vector over the columns";
  let description = [{
    `w[n,k] = inner[n,k]·α[k]`.

    Components: those of inner, then `alpha` : tensor<Kxf16>. Bits: inner's and
    16K. Source: SKIM's trained scaling vector; ABQ-LLM's balance vectors.

    Constraints:
    * (scaled_c1) inner is rows or a leaf.

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
    the leaf `factors` along its last dimension.

    Components: those of base, then of A (`low_rank.a.` …) and of B
    (`low_rank.b.` …). Bits: the sum. Source: LQER, L²QER, QERA.

    Constraints:
    * (low_rank_c1) base is scaled, rows or a leaf.
    * (low_rank_c2) rank is positive and at most N and K.
    * (low_rank_c3) factors is a leaf.

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
    `x[t,c] = s[t]·(q[t,c] − z[t])` with s (and z when `asymmetric`) found at run
    time for each token; for a cache for each token and head, that is for each
    index of all dimensions but the last.
    * symmetric: s = max|x| / (2^(bits−1) − 1), q = round(x/s), no z;
    * `asymmetric`: s = (max − min) / (2^bits − 1), at least 10⁻⁵, z = round(−min/s),
      q = round(x/s) + z clamped to [0, 2^bits − 1].
    s is rounded to f32; rounding is to nearest, ties to even.

    Constraints:
    * (per_token_c1) bits from 2 to 8.
    * (per_token_c2) the tensor is of f16, bf16 or f32 and has a last dimension.

    ```mlir
    tensor<?x?x64xf32, #skim.per_token<bits = 8>>
    tensor<?x4x?x8xf32, #skim.per_token<bits = 4, asymmetric>>
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

// No encoding: how a kernel wants codes to lie that an encoding only names.
def Skim_LayoutAttr : AttrDef<Skim_Dialect, "Layout"> {
  let mnemonic = "layout";
  let summary = "the order of packed codes that a target's kernel reads";
  let description = [{
    Where no layout stands, codes of b bits lie in a row one after another, LSB
    first (`rows`). With a layout, blocks of c·lanes columns, c = word / gcd(word,
    b), are turned so that a vector of words holds one code of each of its lanes:
    column j·lanes + i of a block is bits [j·b, (j + 1)·b) of lane i's bit string,
    whose word t is word number t·lanes + i of the block. A kernel then needs a
    shift for `lanes` codes where it else permutes bytes first. Columns behind the
    last whole block lie as in `rows`. So a layout moves bits within a row; sizes,
    types and values stay. It belongs to a target's kernel call and to a package's
    files, never to a value in IR, which is canonical.

    Leaves whose codes are not packed one after another (dense, planes), whose
    groups end inside of a block, or with fewer columns than a block, lie in rows.

    Constraints:
    * (layout_c1) word is 16 or 32.
    * (layout_c2) lanes is 8, 16 or 32.

    ```mlir
    func.func @example(%x: tensor<?x576xf32>, %w: tensor<48x576xf16, #skim.codebook<bits = 3>>) -> tensor<?x48xf32> {
      %y = skim.linear %x, %w {skim.layout = #skim.layout<word = 16, lanes = 32>}
         : tensor<?x576xf32>, tensor<48x576xf16, #skim.codebook<bits = 3>> -> tensor<?x48xf32>
      return %y : tensor<?x48xf32>
    }
    ```
  }];
  let parameters = (ins "unsigned":$word, "unsigned":$lanes);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

#endif
