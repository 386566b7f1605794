//===- Devices.cpp - the figures of devices ---------------------------------===//
//
// Data sheets (public): NVIDIA A100 Tensor Core GPU data sheet and architecture
// white paper (2020), GA102 white paper (RTX 3090), Ada white paper (RTX 4090),
// L4 data sheet, H100 architecture white paper (2022), H200 and HGX B200 data
// sheets, RTX Blackwell white paper (RTX 5090). From these: bandwidth, size of
// L2, multiprocessors, boost clock, tensor rates (dense f16, sums in f32, divided
// by multiprocessors and clock), f64 rates.
// CUDA C++ Programming Guide: threads, blocks, registers and shared memory of a
// multiprocessor ("technical specifications per compute capability"), results a
// clock of integer, float and special functions ("arithmetic instructions").
//
// Assumed, because no data sheet has it:
// - readShare 0.9: HBM and GDDR never give all of it; an H100 copies at 3.0 of 3.35 TB/s.
// - clock: the boost clock, of H100, H200 and B200 somewhat less, as under load.
// - l2Bandwidth: A100 from its white paper (5120 bytes a clock); others from published microbenchmarks, rounded down.
// - latencies: from published microbenchmarks of A100 and H100, of the others scaled from their clocks.
// - mmaProducts of H100 and H200: 63% of wgmma's rate, as published microbenchmarks have mma.sync; of B200 that of
//   an A100, since tcgen05 replaced it.
// - wgmmaProducts: the data sheet's rate (989 teraflops at 1.83 GHz), which published microbenchmarks reach with n of
// 64
//   and more ("Benchmarking and Dissecting the Nvidia Hopper GPU Architecture", arXiv:2402.13499). Its latency is what
//   they have as well: m64n256k16 128 clocks, as long as it takes at that rate; a short one takes an mma's.
// - node: about a microsecond between kernels of a graph that depend on each other.
//
//===----------------------------------------------------------------------===//

#include "skim/Target/GPU/PerformanceModel.h"

using namespace skim;
using namespace skim::device;

namespace {
constexpr double kMega = 1 << 20, kGiga = 1e9, kTera = 1e12;
constexpr double kOfLibrary = 0.75;

DeviceFigures makeDevice(std::string key, std::string name, std::string chip, double bandwidth, double l2Bytes,
                         double l2Bandwidth, int64_t multiprocessors, double clock) {
  DeviceFigures d;
  d.key = std::move(key);
  d.name = std::move(name);
  d.chip = std::move(chip);
  d.bandwidth = bandwidth;
  d.readShare = 0.9;
  d.l2Bytes = l2Bytes;
  d.l2Bandwidth = l2Bandwidth;
  d.multiprocessors = multiprocessors;
  d.clock = clock;
  d.threads = 2048;
  d.blocks = 32;
  d.registers = 65536;
  d.shared = 228 << 10;
  d.aluLanes = 64;
  d.fmaLanes = 128;
  d.xuLanes = 16;
  d.fp64Lanes = 64;
  d.mmaProducts = 1024;
  d.wgmmaProducts = d.libraryProducts = 0;
  d.memoryLatency = 600;
  d.l2Latency = 260;
  d.sharedLatency = 30;
  d.mmaLatency = 33;
  d.node = 1.0e-6;
  return d;
}

/// What consumer chips have less of.
DeviceFigures consumer(DeviceFigures d, int64_t blocks) {
  d.threads = 1536;
  d.blocks = blocks;
  d.shared = 100 << 10;
  d.fp64Lanes = 2;
  d.mmaProducts = 256;
  return d;
}

std::vector<DeviceFigures> makeTable() {
  DeviceFigures a100 =
      makeDevice("a100", "A100 SXM 80 GB", "sm_80", 2039 * kGiga, 40 * kMega, 7.2 * kTera, 108, 1.41 * kGiga);
  a100.shared = 164 << 10;
  a100.fmaLanes = 64;
  a100.fp64Lanes = 32;
  a100.memoryLatency = 570;
  a100.l2Latency = 220;
  a100.node = 1.3e-6;
  DeviceFigures rtx3090 =
      consumer(makeDevice("rtx3090", "RTX 3090", "sm_86", 936 * kGiga, 6 * kMega, 2.3 * kTera, 82, 1.695 * kGiga), 16);
  rtx3090.memoryLatency = 550;
  rtx3090.l2Latency = 240;
  rtx3090.node = 1.3e-6;
  DeviceFigures rtx4090 =
      consumer(makeDevice("rtx4090", "RTX 4090", "sm_89", 1008 * kGiga, 72 * kMega, 5 * kTera, 128, 2.52 * kGiga), 24);
  rtx4090.memoryLatency = 750;
  rtx4090.l2Latency = 290;
  DeviceFigures l4 =
      consumer(makeDevice("l4", "L4", "sm_89", 300 * kGiga, 48 * kMega, 1.6 * kTera, 58, 2.04 * kGiga), 24);
  l4.mmaProducts = 512;
  DeviceFigures h100 =
      makeDevice("h100", "H100 SXM 80 GB", "sm_90", 3352 * kGiga, 50 * kMega, 5.5 * kTera, 132, 1.755 * kGiga);
  h100.mmaProducts = 1290;
  h100.wgmmaProducts = 2048;
  DeviceFigures h200 = h100;
  h200.key = "h200";
  h200.name = "H200 SXM 141 GB";
  h200.bandwidth = 4800 * kGiga;
  DeviceFigures b200 = makeDevice("b200", "B200", "sm_100", 8000 * kGiga, 126 * kMega, 10 * kTera, 148, 1.85 * kGiga);
  b200.memoryLatency = 750;
  b200.l2Latency = 300;
  b200.libraryProducts = kOfLibrary * 4096; // by tcgen05, which only sm_100a has and no kernel of ours
  DeviceFigures rtx5090 = consumer(
      makeDevice("rtx5090", "RTX 5090", "sm_120", 1792 * kGiga, 96 * kMega, 7 * kTera, 170, 2.407 * kGiga), 24);
  rtx5090.aluLanes = 128;
  rtx5090.memoryLatency = 750;
  rtx5090.l2Latency = 290;
  std::vector<DeviceFigures> all = {a100, rtx3090, rtx4090, l4, h100, h200, b200, rtx5090};
  for (DeviceFigures &device : all)
    if (!device.libraryProducts)
      device.libraryProducts = kOfLibrary * (device.wgmmaProducts ? device.wgmmaProducts : device.mmaProducts);
  return all;
}
} // namespace

const std::vector<DeviceFigures> &device::deviceTable() {
  static const std::vector<DeviceFigures> table = makeTable();
  return table;
}

Expected<DeviceFigures> device::findDevice(std::string_view chipOrKey) {
  std::string known;
  for (const DeviceFigures &figures : deviceTable()) {
    if (figures.runs(chipOrKey) || figures.key == chipOrKey)
      return figures;
    known += (known.empty() ? "" : ", ") + figures.key;
  }
  return fail("unknown device", "", "one of " + known, std::string(chipOrKey));
}
