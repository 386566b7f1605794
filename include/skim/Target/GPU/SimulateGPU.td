#ifndef SKIM_TARGET_GPU_SIMULATEGPU_TD
#define SKIM_TARGET_GPU_SIMULATEGPU_TD

include "mlir/Pass/PassBase.td"

def SimulateGPU : Pass<"skim-simulate-gpu", "::mlir::ModuleOp"> {
  let summary = "turns GPU kernels into functions that a simulated lane runs";
  let description = [{
    Replaces every `gpu.module` by a function of the host for each kernel and a
    description of its operations (`skim_sim_description`). Accesses to memory,
    barriers, shuffles, votes and matrix operations become calls of the hooks
    that a lane carries (`include/skim-rt/sim.h`); shared variables get their
    addresses; arithmetic and loops stay. An operation that the simulator does
    not know is an error (`docs/gpu.md` lists those that it knows).

    ```mlir
    gpu.module @kernels {
      gpu.func @twice(%x: !llvm.ptr<1>) kernel {
        %i = gpu.thread_id x
        %i64 = arith.index_cast %i : index to i64
        %p = llvm.getelementptr %x[%i64] : (!llvm.ptr<1>, i64) -> !llvm.ptr<1>, f32
        %v = llvm.load %p : !llvm.ptr<1> -> f32
        %y = arith.addf %v, %v : f32
        llvm.store %y, %p : f32, !llvm.ptr<1>
        gpu.return
      }
    }
    ```
  }];
  let dependentDialects = ["::mlir::LLVM::LLVMDialect", "::mlir::func::FuncDialect", "::mlir::arith::ArithDialect",
                           "::mlir::vector::VectorDialect"];
}

#endif
