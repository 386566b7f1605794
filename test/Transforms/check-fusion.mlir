// RUN: skim-opt %s --skim-check-fusion --split-input-file --verify-diagnostics

// A kernel with a small buffer, the barrier, and a call between kernels pass.
func.func private @kernel(%p: !llvm.ptr)
    attributes {skim.decode_buffer = {bytes = 9216 : i64, elements = 4608 : i64, columns = 576 : i64}} {
  return
}
func.func @step(%p: !llvm.ptr, %thread: i32) {
  func.call @kernel(%p) {skim.rows = 64 : i64} : (!llvm.ptr) -> ()
  llvm.call %p(%p, %thread) {skim.barrier} : !llvm.ptr, (!llvm.ptr, i32) -> ()
  return
}

// -----

func.func @allocates(%n: index) {
  // expected-error @below {{'memref.alloc' op expected code that allocates nothing}}
  %0 = memref.alloc(%n) : memref<?xf32>
  memref.dealloc %0 : memref<?xf32>
  return
}

// -----

func.func @stack(%n: i64) {
  // expected-error @below {{'llvm.alloca' op expected code that allocates nothing}}
  %0 = llvm.alloca %n x f32 : (i64) -> !llvm.ptr
  return
}

// -----

func.func private @malloc(i64) -> !llvm.ptr
func.func @outside(%n: i64) {
  // expected-error @below {{expected calls of functions of this module, got @malloc}}
  %0 = func.call @malloc(%n) : (i64) -> !llvm.ptr
  return
}

// -----

func.func @indirect(%p: !llvm.ptr) {
  // expected-error @below {{expected calls of kernels or of the barrier, got an indirect call}}
  llvm.call %p() : !llvm.ptr, () -> ()
  return
}

// -----

// expected-error @below {{expected a decode buffer of at most 262144 bytes, got 1048576}}
func.func private @large(%p: !llvm.ptr)
    attributes {skim.decode_buffer = {bytes = 1048576 : i64, elements = 262144 : i64, columns = 4096 : i64}} {
  return
}

// -----

// All of a weight of eight rows, decoded.
func.func private @whole(%p: !llvm.ptr)
    attributes {skim.decode_buffer = {bytes = 9216 : i64, elements = 4608 : i64, columns = 576 : i64}} {
  return
}
func.func @step(%p: !llvm.ptr) {
  // expected-error @below {{expected a decode buffer of at most 576 elements, an eighth of the weight's, got 4608}}
  func.call @whole(%p) {skim.rows = 8 : i64} : (!llvm.ptr) -> ()
  return
}

// -----

func.func private @kernel(%p: !llvm.ptr)
    attributes {skim.decode_buffer = {bytes = 9216 : i64, elements = 4608 : i64, columns = 576 : i64}} {
  return
}
func.func @step(%p: !llvm.ptr) {
  // expected-error @below {{expected 'skim.rows' on the call of a kernel with 'skim.decode_buffer', got none}}
  func.call @kernel(%p) : (!llvm.ptr) -> ()
  return
}
