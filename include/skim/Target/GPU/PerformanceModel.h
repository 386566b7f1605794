//===- PerformanceModel.h - how long a kernel will take ---------*- C++ -*-===//
//
// From what a launch does (counted in the simulator, instructions read from PTX
// or machine code) and what a device can do (data sheets, stated assumptions):
// microseconds and the resource that binds. Nothing is measured; docs/gpu.md
// says what would falsify it. No MLIR.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_TARGET_GPU_PERFORMANCEMODEL_H
#define SKIM_TARGET_GPU_PERFORMANCEMODEL_H

#include "skim/Support/Error.h"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace skim::device {

/// What a device can do. Rates of a multiprocessor are a clock; where figures
/// come from stands in lib/Target/GPU/Model/Devices.cpp.
struct DeviceFigures {
  std::string key, name, chip; ///< `h100`, `H100 SXM 80 GB`, `sm_90`
  double bandwidth;            ///< bytes a second, data sheet
  double readShare;            ///< of it, what a kernel that only reads reaches (assumed)
  double l2Bytes, l2Bandwidth; ///< bytes; bytes a second
  int64_t multiprocessors;
  double clock;                                   ///< Hz under load
  int64_t threads, blocks, registers, shared;     ///< that a multiprocessor holds; bytes of shared memory
  double aluLanes, fmaLanes, xuLanes, fp64Lanes;  ///< integer and logic, f32, transcendental and conversions, f64
  double mmaProducts;                             ///< f16 or bf16 products, sums in f32, by mma.sync
  double wgmmaProducts;                           ///< the same by wgmma; 0: the chip has none
  double libraryProducts;                         ///< that cuBLAS reaches: 75% of what the data sheet has (assumed)
  double memoryLatency, l2Latency, sharedLatency; ///< clocks
  double mmaLatency;                              ///< clocks of an m16n8k16 that waits for another
  double node;                                    ///< seconds from one kernel of a graph to the next that needs it

  /// Whether code for a chip, `sm_90` or `sm_90a`, runs there.
  bool runs(std::string_view chipOfCode) const { return chipOfCode == chip || chipOfCode == chip + "a"; }
  /// Bytes a second that a kernel can read.
  double readBandwidth() const { return bandwidth * readShare; }
};

/// All devices, and the one that a chip (`sm_90a`) or a key (`h200`) means.
const std::vector<DeviceFigures> &deviceTable();
Expected<DeviceFigures> findDevice(std::string_view chipOrKey);

/// Where instructions of a warp go, in clocks of one lane: sums over warps of warp-instructions.
struct PipeCounts {
  double issued = 0; ///< all
  double alu = 0;    ///< integers, logic, comparisons, permutes
  double fma = 0;    ///< floats and integer multiplication
  double xu = 0;     ///< transcendental functions and conversions
  double fp64 = 0;
  double memory = 0;   ///< clocks of the load and store unit: a request, or 128 bytes of one
  double products = 0; ///< of mma, multiply-adds
  double wgmma = 0;    ///< of wgmma, likewise; a warp's share of its warpgroup's

  PipeCounts &operator+=(const PipeCounts &other);
  PipeCounts scaled(double factor) const;
};

/// What a launch does.
struct LaunchCosts {
  std::string kernel;
  int64_t blocks = 1, threads = 32;   ///< threads of a block
  int64_t firstBlocks = 0;            ///< before these, as large: they take room, their work is the others'
  int64_t registers = 32, shared = 0; ///< of a thread; bytes of a block
  bool exactRegisters = false;        ///< from ptxas, else an estimate
  bool exactInstructions = false;     ///< from machine code, else from PTX
  PipeCounts pipes;                   ///< of all blocks
  double memoryBytes = 0;             ///< weights and caches: from the device's memory, each once
  double l2Bytes = 0;                 ///< all requests' sectors
  double sharedClocks = 0;            ///< wavefronts of shared memory
  double blockClocks = 0;             ///< of a block alone on the device, latencies included
  // Of a block alone, in clocks:
  double firstRequest = 0;           ///< when it asks the device's memory for what it streams, 0 if it does not
  double firstUse = 0;               ///< when the first of that is used: what is before, nothing hides
  double bytesBefore = 0;            ///< bytes of it that were requested until then
  double drainWork = 0;              ///< of a warp's issue and integer pipe, from the first use of the last of it on
  double drainLatency = 0;           ///< from that use to the end, without the work of the block's warps
  double barriers = 0, requests = 0; ///< counted, for reports
  double loadsInFlight = 0;          ///< bytes of the device's memory that a block asks for at once, at most
};

enum class Bound { Memory, L2, Issue, ALU, FMA, XU, FP64, LoadStore, Shared, MMA, Latency, Tail, Launch };
std::string_view spell(Bound bound);

/// Microseconds.
struct Prediction {
  double microseconds = 0; ///< with the launch in a graph
  double kernel = 0;       ///< without
  Bound bound = Bound::Memory;
  double share = 0;                                                       ///< of the read bandwidth: memoryBytes ÷ time
  double exposed = 0;                                                     ///< latency that the bound does not hide
  double latency = 0;                                                     ///< waves of blocks, each as if alone
  double tail = 0;                                                        ///< what the last wave costs beyond its share
  std::array<double, static_cast<size_t>(Bound::Latency)> resources = {}; ///< by Bound
  int64_t blocksPerMultiprocessor = 0;
  double waves = 0;
};

/// Blocks that a multiprocessor holds at once; 0 if not even one fits.
int64_t occupancy(const DeviceFigures &device, int64_t threads, int64_t registers, int64_t shared);

/// Time = max(resource + the latency that it does not hide, waves of blocks) + a node of the graph.
Prediction predict(const DeviceFigures &device, const LaunchCosts &costs);

} // namespace skim::device

#endif // SKIM_TARGET_GPU_PERFORMANCEMODEL_H
