#ifndef SKIM_TARGET_GPU_GENERATEGPULINEAR_TD
#define SKIM_TARGET_GPU_GENERATEGPULINEAR_TD

include "mlir/Pass/PassBase.td"

def GenerateGPULinear : Pass<"skim-generate-gpu-linear", "::mlir::ModuleOp"> {
  let summary = "emits the GPU kernels of linear layers";
  let description = [{
    Adds a `gpu.module @kernels` with what the module's `skim.linear`s need for
    `rows` rows of x, kernels of the same signature once, and writes the launches
    of each on it as `skim.launches` (kernel and grid, in their order). The
    linears stay: to look at kernels, and to test them. `docs/gpu.md` says how
    weights lie and what a lane does.

    ```mlir
    func.func @linear(%x: tensor<1x512xf32>, %w: tensor<48x512xf16, #skim.codebook<bits = 3>>) -> tensor<1x48xf32> {
      %y = skim.linear %x, %w : tensor<1x512xf32>, tensor<48x512xf16, #skim.codebook<bits = 3>> -> tensor<1x48xf32>
      return %y : tensor<1x48xf32>
    }
    ```
  }];
  let options = [
    Option<"target", "target", "std::string", /*default=*/"\"nvidia:sm_80\"", "GPU target (`nvidia:sm_90`, …)">,
    Option<"rows", "rows", "int64_t", /*default=*/"1", "rows of x">,
    Option<"mode", "mode", "std::string", /*default=*/"\"f16\"", "activation mode: f16, bf16 or a8">,
  ];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::gpu::GPUDialect", "::mlir::LLVM::LLVMDialect",
                           "::mlir::math::MathDialect", "::mlir::NVVM::NVVMDialect", "::mlir::scf::SCFDialect",
                           "::mlir::vector::VectorDialect"];
}

#endif
