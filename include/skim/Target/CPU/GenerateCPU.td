#ifndef SKIM_TARGET_CPU_GENERATECPU_TD
#define SKIM_TARGET_CPU_GENERATECPU_TD

include "mlir/Pass/PassBase.td"

def GenerateCPU : Pass<"skim-generate-cpu", "::mlir::ModuleOp"> {
  let summary = "compiles the model function into a step for a CPU";
  let description = [{
    Replaces the module's `@forward` by kernels and the functions of
    `include/skim-rt/abi.h`: `@skim_step`, which calls them with a barrier between
    those that depend on each other, and `@skim_sample`. The manifest's "program"
    becomes the module's attribute `skim.program`.
  }];
  let options = [
    Option<"target", "target", "std::string", /*default=*/"\"cpu\"", "CPU target (`cpu:x86-64-v4`, …)">,
  ];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::func::FuncDialect", "::mlir::LLVM::LLVMDialect",
                           "::skim::lane::LaneDialect", "::mlir::math::MathDialect", "::mlir::scf::SCFDialect", "::mlir::vector::VectorDialect"];
}

#endif
