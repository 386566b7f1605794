//===- Sass.h - machine code of kernels ---------------------------*- C++ -*-===//
//
// Instructions of the machine by pipe, in the loops that load weights and
// elsewhere. Needs nvdisasm (of CUDA, or of the Python package triton on PATH).
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_LIB_TARGET_GPU_MODEL_SASS_H
#define SKIM_LIB_TARGET_GPU_MODEL_SASS_H

#include "skim/Target/GPU/PerformanceModel.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringRef.h"

#include <optional>

namespace skim::device {

/// Of one kernel's text, each instruction once.
struct SassKernel {
  PipeCounts loops; ///< innermost loops that load weights (LDG with evict-first)
  PipeCounts rest;
  double loopLoads = 0, restLoads = 0; ///< such loads
  bool local = false;                  ///< touches local memory
};

/// The kernels in what nvdisasm wrote.
llvm::StringMap<SassKernel> readSass(llvm::StringRef text);

/// Disassembles a cubin; nothing where there is no nvdisasm on PATH or in $CUDA_HOME/bin, or where it fails.
std::optional<std::string> disassemble(const std::string &cubin);

} // namespace skim::device

#endif // SKIM_LIB_TARGET_GPU_MODEL_SASS_H
