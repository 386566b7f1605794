//===- Predict.cpp - microseconds from counts -------------------------------===//
//
// Two bounds, as of list scheduling. Work: each resource serves its share of the
// launch at its rate; what a multiprocessor has for itself (everything but
// memory and L2) is bound by the one with the most blocks. On top comes what it
// cannot do meanwhile. Pipes: what is before the first use of what is streamed, and
// the latencies behind the last. Memory: what passes until its first byte is there,
// and between what was requested before that use and what is requested from then
// on, if memory has been done with the former; and what one warp does with the last
// bytes (if the others were not done with theirs, it was not memory that bound).
// Latency: a block takes the time that it would take alone, and blocks that
// find no room wait for a whole one (Little's law in blocks).
//
//===----------------------------------------------------------------------===//

#include "skim/Target/GPU/PerformanceModel.h"

#include <algorithm>
#include <cmath>

using namespace skim;
using namespace skim::device;

static constexpr int64_t kWarp = 32, kPartitions = 4;
/// Bytes that a multiprocessor takes from L2 in a clock.
static constexpr double kPortBytes = 64;

PipeCounts &PipeCounts::operator+=(const PipeCounts &other) {
  issued += other.issued;
  alu += other.alu;
  fma += other.fma;
  xu += other.xu;
  fp64 += other.fp64;
  memory += other.memory;
  products += other.products;
  wgmma += other.wgmma;
  return *this;
}

PipeCounts PipeCounts::scaled(double factor) const {
  return {issued * factor, alu * factor,    fma * factor,      xu * factor,
          fp64 * factor,   memory * factor, products * factor, wgmma * factor};
}

std::string_view device::spell(Bound bound) {
  constexpr std::string_view names[] = {"memory",     "L2",     "issue", "integer ALU", "FMA",  "XU",    "f64",
                                        "load/store", "shared", "mma",   "latency",     "tail", "launch"};
  return names[static_cast<size_t>(bound)];
}

int64_t device::occupancy(const DeviceFigures &device, int64_t threads, int64_t registers, int64_t shared) {
  auto up = [](int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; };
  int64_t warps = (threads + kWarp - 1) / kWarp;
  int64_t blocks = std::min(device.blocks, device.threads / (warps * kWarp));
  // Registers are given to warps in pieces of 256; a block's shared memory has 1 KiB for the system beside it.
  blocks = std::min(blocks, device.registers / (warps * up(std::max<int64_t>(registers, 16), 8) * kWarp));
  return std::min(blocks, device.shared / (up(shared, 128) + 1024));
}

Prediction device::predict(const DeviceFigures &device, const LaunchCosts &costs) {
  Prediction result;
  result.blocksPerMultiprocessor =
      std::max<int64_t>(1, occupancy(device, costs.threads, costs.registers, costs.shared));
  double blocks = static_cast<double>(costs.blocks), units = static_cast<double>(device.multiprocessors);
  double room = units * static_cast<double>(result.blocksPerMultiprocessor);
  result.waves = (blocks + static_cast<double>(costs.firstBlocks)) / room;

  // Of the launch, what the busiest multiprocessor does.
  double busiest = std::ceil(blocks / units) / blocks;
  double resident = std::min(std::ceil(blocks / units), static_cast<double>(result.blocksPerMultiprocessor));
  int64_t warps = (costs.threads + kWarp - 1) / kWarp;
  // A warp stays in one of four partitions.
  double partitions = std::min<double>(kPartitions, resident * static_cast<double>(warps)) / kPartitions;
  auto lanes = [&](double count, double perClock) {
    return count * busiest * kWarp / (perClock * partitions) / device.clock * 1e6;
  };
  auto clocks = [&](double count) { return count * busiest / device.clock * 1e6; };
  auto &time = result.resources;
  auto at = [&](Bound bound) -> double & { return time[static_cast<size_t>(bound)]; };
  at(Bound::Memory) = costs.memoryBytes / device.readBandwidth() * 1e6;
  at(Bound::L2) = std::max(costs.l2Bytes / device.l2Bandwidth * 1e6, clocks(costs.l2Bytes) / kPortBytes);
  at(Bound::Issue) = lanes(costs.pipes.issued, kPartitions * kWarp);
  at(Bound::ALU) = lanes(costs.pipes.alu, device.aluLanes);
  at(Bound::FMA) = lanes(costs.pipes.fma, device.fmaLanes);
  at(Bound::XU) = lanes(costs.pipes.xu, device.xuLanes);
  at(Bound::FP64) = lanes(costs.pipes.fp64, device.fp64Lanes);
  at(Bound::LoadStore) = clocks(costs.pipes.memory);
  at(Bound::Shared) = clocks(costs.sharedClocks);
  at(Bound::MMA) = clocks(costs.pipes.products) / (device.mmaProducts * partitions);
  if (costs.pipes.wgmma > 0)
    at(Bound::MMA) += clocks(costs.pipes.wgmma) / (device.wgmmaProducts * partitions);

  double block = costs.blockClocks / device.clock * 1e6, work = 0, busy = 0;
  double ofPipes = costs.firstUse + costs.drainLatency, ofMemory = 0;
  if (costs.firstUse > 0) {
    double clocksAByte = static_cast<double>(device.multiprocessors) * device.clock / device.readBandwidth();
    double atWork = costs.bytesBefore * resident * clocksAByte;
    double idle = std::max(0.0, costs.firstUse - costs.firstRequest - std::max(atWork, device.memoryLatency));
    ofMemory = costs.firstRequest + device.memoryLatency + idle + costs.drainWork + costs.drainLatency;
  }
  for (size_t i = 0; i < time.size(); ++i) {
    auto bound = static_cast<Bound>(i);
    bool streams = bound == Bound::Memory || bound == Bound::L2;
    double exposed = (streams ? ofMemory : ofPipes) / device.clock * 1e6;
    if (result.blocksPerMultiprocessor == 1) // no other block is at work meanwhile
      exposed *= std::ceil(result.waves);
    if (time[i] > 0 && time[i] + exposed > busy) {
      busy = time[i] + exposed;
      work = time[i];
      result.bound = bound;
      result.exposed = exposed;
    }
  }
  result.latency = std::ceil(result.waves) * block;
  // The blocks of the last wave take a block's time, however few they are.
  double full = std::floor(result.waves), rest = result.waves - full;
  if (full >= 1 && rest > 0) {
    result.tail = std::max(0.0, block - work * rest / result.waves - result.exposed);
    busy += result.tail;
  }
  result.kernel = std::max(busy, result.latency);
  result.microseconds = result.kernel + device.node * 1e6;
  if (result.latency > busy || result.exposed > work)
    result.bound = Bound::Latency;
  else if (result.tail > work)
    result.bound = Bound::Tail;
  if (device.node * 1e6 > result.kernel)
    result.bound = Bound::Launch;
  result.share = at(Bound::Memory) / result.microseconds;
  return result;
}
