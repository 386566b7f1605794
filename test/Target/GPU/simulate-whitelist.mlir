// RUN: skim-opt %s --skim-simulate-gpu --split-input-file --verify-diagnostics

gpu.module @kernels {
  gpu.func @text(%x: !llvm.ptr<1>) kernel {
    // expected-error@+1 {{'gpu.printf' op is not simulated (docs/gpu.md lists what kernels may use)}}
    gpu.printf "hello"
    gpu.return
  }
}

// -----

gpu.module @kernels {
  gpu.func @devices(%barrier: !llvm.ptr<3>, %n: i32) kernel {
    // expected-error@+1 {{'nvvm.mbarrier.init' op runs on devices only: the simulator has no wgmma, TMA or clusters}}
    nvvm.mbarrier.init %barrier, %n : !llvm.ptr<3>, i32
    // expected-error@+1 {{'nvvm.wgmma.fence.aligned' op runs on devices only}}
    nvvm.wgmma.fence.aligned
    // expected-error@+1 {{'nvvm.cp.async.bulk.commit.group' op runs on devices only}}
    nvvm.cp.async.bulk.commit.group
    // expected-error@+1 {{'nvvm.setmaxregister' op runs on devices only}}
    nvvm.setmaxregister increase 200
    gpu.return
  }
}

// -----

gpu.module @kernels {
  gpu.func @memory(%x: !llvm.ptr<1>, %constant: !llvm.ptr<4>, %shared: !llvm.ptr<3>) kernel {
    // expected-error@+1 {{'llvm.load' op is not simulated: expected address space 0, 1 or 3, got 4}}
    %a = llvm.load %constant : !llvm.ptr<4> -> i32
    // expected-error@+1 {{'llvm.load' op is not simulated: expected an access of a power of two of bytes, got 12}}
    %b = llvm.load %x : !llvm.ptr<1> -> vector<3xi32>
    // expected-error@+1 {{'llvm.addrspacecast' op is not simulated: expected a cast between the global and the generic space}}
    %c = llvm.addrspacecast %shared : !llvm.ptr<3> to !llvm.ptr
    %n = arith.constant 4 : i64
    // expected-error@+1 {{'llvm.alloca' op is not simulated}}
    %d = llvm.alloca %n x i32 : (i64) -> !llvm.ptr
    gpu.return
  }
}

// -----

gpu.module @kernels {
  gpu.func @texts(%x: !llvm.ptr<1>, %v: f32, %a: i32, %i64: i64) kernel {
    // expected-error@+1 {{'llvm.inline_asm' op is not simulated: st.global.b32 [$0], $1;}}
    llvm.inline_asm has_side_effects "st.global.b32 [$0], $1;", "l,r" %x, %a : (!llvm.ptr<1>, i32) -> ()
    // expected-error@+1 {{'nvvm.inline_ptx' op is not simulated: trap;}}
    nvvm.inline_ptx "trap;"
    // expected-error@+1 {{'llvm.call_intrinsic' op is not simulated: intrinsic llvm.nvvm.fabs.f32}}
    %b = llvm.call_intrinsic "llvm.nvvm.fabs.f32"(%v) : (f32) -> f32
    // expected-error@+1 {{'nvvm.prmt' op is not simulated but in mode default}}
    %c = nvvm.prmt <f4e> %a, %a, %a : i32
    // expected-error@+1 {{'gpu.shuffle' op is not simulated but on values of 32 bits}}
    %d, %valid = gpu.shuffle xor %i64, %a, %a : i64
    gpu.return
  }
}

// -----

gpu.module @kernels {
  // expected-error@+1 {{'llvm.mlir.global' op is not simulated: expected a variable in address space 3 without a value}}
  llvm.mlir.global internal constant @table(dense<1> : tensor<4xi32>) {addr_space = 4 : i32} : !llvm.array<4 x i32>
  // expected-error@+1 {{'func.func' op is not simulated: expected kernels without attributions and shared variables}}
  func.func @helper() {
    return
  }
  gpu.func @fine() kernel {
    gpu.return
  }
}

// -----

gpu.module @kernels {
  // expected-error@+1 {{'gpu.func' op is not simulated: expected arguments that are integers, floats or pointers}}
  gpu.func @buffers(%x: memref<4xf32>) kernel {
    gpu.return
  }
}
