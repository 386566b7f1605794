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
    // expected-error@+1 {{'nvvm.mbarrier.init' op runs on devices only: the simulator has no TMA, no clusters and no Tensor Memory}}
    nvvm.mbarrier.init %barrier, %n : !llvm.ptr<3>, i32
    // expected-error@+1 {{'nvvm.wgmma.fence.aligned' op runs on devices only: the simulator's wgmma are those of DeviceBuilder, whose registers are operands}}
    nvvm.wgmma.fence.aligned
    // expected-error@+1 {{'nvvm.cp.async.bulk.commit.group' op runs on devices only}}
    nvvm.cp.async.bulk.commit.group
    // expected-error@+1 {{'nvvm.setmaxregister' op runs on devices only}}
    nvvm.setmaxregister increase 200
    // expected-error@+1 {{'nvvm.fence.proxy' op runs on devices only}}
    nvvm.fence.proxy {kind = #nvvm.proxy_kind<async>}
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

// -----

// A fence makes a register wgmma's, a wait gives it back; in between nothing else uses it.
gpu.module @kernels {
  gpu.func @registers(%y: !llvm.ptr<1>, %sum: f32, %n: i32) kernel {
    %c0 = arith.constant 0 : i32
    %c1 = arith.constant 1 : i32
    %held = llvm.inline_asm has_side_effects "wgmma.fence.sync.aligned;", "=f,0,~{memory}" %sum : (f32) -> f32
    // expected-error@+1 {{'arith.addf' op uses a register that wgmma has: expected it behind wgmma.wait_group}}
    %early = arith.addf %held, %held : f32
    // expected-error@+1 {{'llvm.inline_asm' op is given a register that was not handed to wgmma: expected it behind wgmma.fence}}
    %waited = llvm.inline_asm has_side_effects "wgmma.wait_group.sync.aligned 0;", "=f,0,~{memory}" %sum : (f32) -> f32
    %through = scf.for %i = %c0 to %n step %c1 iter_args(%carried = %held) -> f32 : i32 {
      // expected-error@+1 {{'scf.yield' op is given a register that was not handed to wgmma: expected it behind wgmma.fence}}
      scf.yield %sum : f32
    }
    %back = llvm.inline_asm has_side_effects "wgmma.wait_group.sync.aligned 0;", "=f,0,~{memory}" %through : (f32) -> f32
    llvm.store %back, %y : f32, !llvm.ptr<1>
    gpu.return
  }
}

// -----

gpu.module @kernels {
  gpu.func @operands(%sum: f32, %a: i32, %b: i64) kernel {
    // expected-error@+1 {{'llvm.inline_asm' op is not simulated: wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {$0, $1, $2, $3}, $8, $9, 1, 1, 1, 0, 0;}}
    %d = llvm.inline_asm has_side_effects "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {$0, $1, $2, $3}, $8, $9, 1, 1, 1, 0, 0;", "=f,=f,=f,=f,0,1,2,3,l,l" %sum, %sum, %sum, %sum, %b, %b : (f32, f32, f32, f32, i64, i64) -> !llvm.struct<(f32, f32, f32, f32)>
    // expected-error@+1 {{'llvm.inline_asm' op is not simulated with these operands}}
    %e = llvm.inline_asm has_side_effects "wgmma.fence.sync.aligned;", "=l,0" %b : (i64) -> i64
    gpu.return
  }
}
