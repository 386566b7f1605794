//===- LaneOps.td - lane operations -------------------------*- tablegen -*-===//
#ifndef SKIM_LANE_OPS_TD
#define SKIM_LANE_OPS_TD

include "mlir/IR/OpBase.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "skim/Lane/LaneDialect.td"

class Lane_Op<string mnemonic, list<Trait> traits = []> : Op<Lane_Dialect, mnemonic, traits>;

def Lane_Pointer : Type<CPred<"$_self == ::mlir::LLVM::LLVMPointerType::get($_self.getContext())">, "pointer">,
                   BuildableType<"::mlir::LLVM::LLVMPointerType::get($_builder.getContext())">;
def Lane_F32Like : TypeOrValueSemanticsContainer<F32, "f32 or a vector of f32">;
def Lane_HalfLike : TypeOrValueSemanticsContainer<AnyTypeOf<[F16, BF16]>, "f16, bf16 or a vector of them">;

def Lane_LoadOp : Lane_Op<"load", [MemoryEffects<[MemRead]>]> {
  let summary = "the first elements of a vector";
  let description = [{
    `r[i] = i < count ? p[i] : 0`; memory from p + count on is not touched.

    ```mlir
    func.func @example(%p: !llvm.ptr) {
      %v = lane.load %p first 12 : vector<16xi8>
      return
    }
    ```
  }];
  let arguments = (ins Lane_Pointer:$pointer, I64Attr:$count);
  let results = (outs VectorOfRank<[1]>:$result);
  let assemblyFormat = "$pointer `first` $count attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def Lane_SpreadOp : Lane_Op<"spread", [Pure]> {
  let summary = "packed codes, one a lane";
  let description = [{
    `r[i] = (bits · i … bits · i + bits − 1 of bytes)`, lowest bit of a byte first.
    With `junk`, the bits of a lane above the code are unspecified: a lookup
    ignores them, and a mask is saved.

    ```mlir
    func.func @example(%bytes: vector<16xi8>) {
      %q = lane.spread %bytes bits 3 junk : vector<16xi8> -> vector<32xi16>
      return
    }
    ```
  }];
  let arguments = (ins VectorOfRankAndType<[1], [I8]>:$bytes, I64Attr:$bits, UnitAttr:$junk);
  let results = (outs VectorOfRankAndType<[1], [I8, I16, I32]>:$result);
  let assemblyFormat = "$bytes `bits` $bits (`junk` $junk^)? attr-dict `:` type($bytes) `->` type($result)";
  let hasVerifier = 1;
}

def Lane_LookupOp : Lane_Op<"lookup", [Pure]> {
  let summary = "values of a table in registers";
  let description = [{
    `r[i] = table[codes[i] mod E]`, E entries, a power of two.

    ```mlir
    func.func @example(%table: vector<8xbf16>, %q: vector<32xi16>) {
      %w = lane.lookup %table, %q : vector<8xbf16>, vector<32xi16> -> vector<32xbf16>
      return
    }
    ```
  }];
  let arguments = (ins VectorOfRank<[1]>:$table, VectorOfRankAndType<[1], [I8, I16, I32]>:$codes);
  let results = (outs VectorOfRank<[1]>:$result);
  let assemblyFormat = "$table `,` $codes attr-dict `:` type($table) `,` type($codes) `->` type($result)";
  let hasVerifier = 1;
}

def Lane_GatherOp : Lane_Op<"gather", [MemoryEffects<[MemRead]>]> {
  let summary = "values of a table in memory";
  let description = [{
    `r[i] = p[codes[i]]`: for tables that are too large for registers. Slow.

    ```mlir
    func.func @example(%p: !llvm.ptr, %q: vector<16xi32>) {
      %w = lane.gather %p, %q : vector<16xi32> -> vector<16xf32>
      return
    }
    ```
  }];
  let arguments = (ins Lane_Pointer:$table, VectorOfRankAndType<[1], [I32]>:$codes);
  let results = (outs VectorOfRankAndType<[1], [F32]>:$result);
  let assemblyFormat = "$table `,` $codes attr-dict `:` type($codes) `->` type($result)";
  let hasVerifier = 1;
}

def Lane_DotBF16Op : Lane_Op<"dot_bf16", [Pure, AllTypesMatch<["acc", "result"]>, AllTypesMatch<["a", "b"]>]> {
  let summary = "products of bf16 pairs, added in f32";
  let description = [{
    `r[i] = acc[i] + a[2i]·b[2i] + a[2i+1]·b[2i+1]`; intermediate rounding and
    the treatment of subnormal numbers are the target's.

    ```mlir
    func.func @example(%a: vector<32xbf16>, %b: vector<32xbf16>, %acc: vector<16xf32>) {
      %r = lane.dot_bf16 %a, %b, %acc : vector<32xbf16>, vector<16xf32>
      return
    }
    ```
  }];
  let arguments = (ins VectorOfRankAndType<[1], [BF16]>:$a, VectorOfRankAndType<[1], [BF16]>:$b,
                       VectorOfRankAndType<[1], [F32]>:$acc);
  let results = (outs VectorOfRankAndType<[1], [F32]>:$result);
  let assemblyFormat = "$a `,` $b `,` $acc attr-dict `:` type($a) `,` type($acc)";
  let hasVerifier = 1;
}

def Lane_DotU8S8Op : Lane_Op<"dot_u8s8", [Pure, AllTypesMatch<["acc", "result"]>, AllTypesMatch<["a", "b"]>]> {
  let summary = "products of bytes, added in i32";
  let description = [{
    `r[i] = acc[i] + Σ_{j<4} a[4i+j]·b[4i+j]`, a unsigned, b signed, no saturation.

    ```mlir
    func.func @example(%a: vector<64xi8>, %b: vector<64xi8>, %acc: vector<16xi32>) {
      %r = lane.dot_u8s8 %a, %b, %acc : vector<64xi8>, vector<16xi32>
      return
    }
    ```
  }];
  let arguments = (ins VectorOfRankAndType<[1], [I8]>:$a, VectorOfRankAndType<[1], [I8]>:$b,
                       VectorOfRankAndType<[1], [I32]>:$acc);
  let results = (outs VectorOfRankAndType<[1], [I32]>:$result);
  let assemblyFormat = "$a `,` $b `,` $acc attr-dict `:` type($a) `,` type($acc)";
  let hasVerifier = 1;
}

def Lane_FMAOp : Lane_Op<"fma", [Pure, AllTypesMatch<["a", "b", "c", "result"]>]> {
  let summary = "a·b + c";
  let description = [{
    In one rounding where the target has the instruction.

    ```mlir
    func.func @example(%a: vector<16xf32>, %b: vector<16xf32>, %c: vector<16xf32>) {
      %r = lane.fma %a, %b, %c : vector<16xf32>
      return
    }
    ```
  }];
  let arguments = (ins Lane_F32Like:$a, Lane_F32Like:$b, Lane_F32Like:$c);
  let results = (outs Lane_F32Like:$result);
  let assemblyFormat = "$a `,` $b `,` $c attr-dict `:` type($result)";
}

def Lane_ReduceOp : Lane_Op<"reduce", [Pure]> {
  let summary = "the sum of the lanes";
  let description = [{
    The upper half is added to the lower until one lane is left: the order is
    part of the semantics, so that results are the same everywhere. The number
    of lanes is a power of two.

    ```mlir
    func.func @example(%v: vector<16xf32>) {
      %r = lane.reduce %v : vector<16xf32>
      return
    }
    ```
  }];
  let arguments = (ins VectorOfRankAndType<[1], [F32]>:$vector);
  let results = (outs F32:$result);
  let assemblyFormat = "$vector attr-dict `:` type($vector)";
  let hasVerifier = 1;
}

def Lane_ExtendOp : Lane_Op<"extend", [Pure, SameOperandsAndResultShape]> {
  let summary = "f16 or bf16 to f32";
  let description = [{
    Exact.

    ```mlir
    func.func @example(%v: vector<16xf16>) {
      %r = lane.extend %v : vector<16xf16> -> vector<16xf32>
      return
    }
    ```
  }];
  let arguments = (ins Lane_HalfLike:$input);
  let results = (outs Lane_F32Like:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
}

def Lane_RoundOp : Lane_Op<"round", [Pure, SameOperandsAndResultShape]> {
  let summary = "f32 to f16 or bf16";
  let description = [{
    To nearest, ties to even. Subnormal bf16 may become zero; the argument is no NaN.

    ```mlir
    func.func @example(%v: vector<32xf32>) {
      %r = lane.round %v : vector<32xf32> -> vector<32xbf16>
      return
    }
    ```
  }];
  let arguments = (ins Lane_F32Like:$input);
  let results = (outs Lane_HalfLike:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
}

#endif
