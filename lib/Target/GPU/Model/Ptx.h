//===- Ptx.h - PTX as data, and a walk through it ---------------*- C++ -*-===//
//
// Instruction counts without a device: the first lane of each warp of a block
// computes its integers, so that branches go where they go on a device; floats
// and what shared memory holds stay unknown. Only what LLVM writes is understood.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_LIB_TARGET_GPU_MODEL_PTX_H
#define SKIM_LIB_TARGET_GPU_MODEL_PTX_H

#include "skim/Target/GPU/PerformanceModel.h"

#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"

#include <array>
#include <vector>

namespace skim::device {

struct PtxOperand {
  enum Kind {
    Register,  ///< `index`
    Vector,    ///< `registers`
    Number,    ///< `value`
    Memory,    ///< at register `index` (or −1) + `value`
    Parameter, ///< number `index`
    Label,     ///< instruction `index`
    Special    ///< `%tid.x`: SpecialRegister `index`
  } kind = Number;
  int index = -1;
  uint64_t value = 0;
  llvm::SmallVector<int, 4> registers;
};

/// Where parameter i lies, as far as a walk is concerned: kernels may choose between parameters' addresses.
inline constexpr uint64_t kParameterAddress = uint64_t(1) << 62;

enum SpecialRegister { kTid, kCtaid = kTid + 3, kNtid = kCtaid + 3, kNctaid = kNtid + 3, kLane = kNctaid + 3, kOther };

struct PtxInstruction {
  std::string name; ///< `ld.global.nc.v4.b32`
  llvm::SmallVector<PtxOperand, 4> operands;
  /// Registers read (with predicate) and written.
  llvm::SmallVector<int, 6> sources, results;
  int predicate = -1;
  bool negated = false;
  bool leader = false;  ///< control may come from elsewhere
  bool weights = false; ///< a load that evicts first
  bool inLoop = false;  ///< in an innermost loop that loads weights
  /// What it is once assembled, as far as PTX shows: moves vanish, an `or` of an `and` is one LOP3.
  PipeCounts cost;
};

struct PtxKernel {
  std::string name;
  std::vector<PtxInstruction> instructions;
  std::vector<int> width; ///< of registers, in words of 32 bits; predicates 0
  /// Each instruction in such loops once, and of these loads of weights; each outside.
  PipeCounts loops, rest;
  double loopLoads = 0;
  bool streams = false; ///< has loads that evict first
};

/// Every `.entry` of a module.
Expected<std::vector<PtxKernel>> parsePtx(llvm::StringRef text);

/// Registers of 32 bits that are alive at once, with what ptxas needs beside them: an estimate.
int64_t estimateRegisters(const PtxKernel &kernel);

/// What lies at an address of global memory.
struct WalkMemory {
  bool own = false;              ///< weights and caches: comes from the device's memory, not from L2
  const uint8_t *data = nullptr; ///< or null: unknown
};

struct WalkLaunch {
  std::array<uint32_t, 3> grid = {1, 1, 1}, block = {0, 0, 0};
  uint32_t threads = 32;
  std::vector<uint64_t> arguments;
  llvm::function_ref<WalkMemory(uint64_t address, uint64_t bytes)> memory;
};

struct BlockWalk {
  PipeCounts pipes;  ///< of the block's warps; `memory` is not counted
  PipeCounts loops;  ///< of these, in loops that load weights
  double warps = 0;  ///< of the block
  double clocks = 0; ///< from the first instruction to the last
  // What is streamed: loads that evict first, in kernels that have none all of the device's memory.
  double firstRequest = 0; ///< when the device's memory is asked for it first
  double firstUse = 0;     ///< when the first of it is used; 0: nothing was
  double lastUse = 0;      ///< when what arrived last is used first
  double workBehind = 0;   ///< clocks of issue and of the integer pipe that a warp has left then, if it is alone
  double sharing = 1;      ///< warps that share these
  double bytesBefore = 0;  ///< requested before the first use
  double inFlight = 0;     ///< most bytes of it on their way at once
  double acquired = 0;     ///< when it first looks for what other blocks have made; 0: it does not
  int64_t unknown = 0;     ///< branches on what is unknown: not taken
};

/// Walks one block. Within a basic block, instructions go as soon as their
/// operands are there (ptxas reorders), one a clock; across its end nothing moves.
Expected<BlockWalk> walkBlock(const PtxKernel &kernel, const WalkLaunch &launch, const DeviceFigures &device);

} // namespace skim::device

#endif // SKIM_LIB_TARGET_GPU_MODEL_PTX_H
