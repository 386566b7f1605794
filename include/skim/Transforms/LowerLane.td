#ifndef SKIM_TRANSFORMS_LOWERLANE_TD
#define SKIM_TRANSFORMS_LOWERLANE_TD

include "mlir/Pass/PassBase.td"

def LowerLane : Pass<"lower-lane"> {
  let summary = "lowers lane operations to an instruction set";
  let description = [{
    `isa` chooses among `portable`, `avx2` and `avx512` (F, BW, VL); `features`
    names what more may be used: `f16c`, `vbmi`, `bf16`, `vnni`. An operation
    for which the instruction set has nothing takes the portable lowering:
    vector and arith operations that LLVM compiles for every CPU, without calls
    of a library.

    ```mlir
    %w = lane.lookup %t, %q : vector<8xf32>, vector<16xi32> -> vector<16xf32>
    // avx512:
    %w = llvm.call_intrinsic "llvm.x86.avx512.permvar.sf.512"(%t16, %q) : …
    ```
  }];
  let options = [
    Option<"isa", "isa", "std::string", "\"portable\"", "portable, avx2 or avx512">,
    ListOption<"features", "features", "std::string", "f16c, vbmi, bf16, vnni">,
  ];
  let dependentDialects = ["::mlir::LLVM::LLVMDialect", "::mlir::arith::ArithDialect", "::mlir::vector::VectorDialect"];
}

#endif
