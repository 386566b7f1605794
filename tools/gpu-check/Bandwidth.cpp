#include "Check.h"
#include "Format.h"

#include <algorithm>

using namespace skim;
using namespace skim::gpucheck;

Expected<Bandwidth> Cases::bandwidth(int nodes) {
  const cuda::DeviceInfo &device = context->device();
  uint64_t multiprocessors = static_cast<uint64_t>(std::max(device.multiprocessors, 1));
  // Few blocks that live long, and more that fill the device to the brim: the better one counts.
  constexpr uint64_t kBlocks[] = {4, 16};
  uint64_t round = multiprocessors * kBlocks[1] * kHelperThreads * kReadsInFlight * 16;
  // Much more than the cache holds, and less than the 2^31 units that an i32 counts.
  uint64_t most = std::min<uint64_t>(uint64_t(4) << 30, device.bytes / 4);
  Bandwidth result;
  result.bytes = std::max<uint64_t>(std::min(uint64_t(std::max(device.l2Bytes, 1)) * 32, most) / round, 1) * round;
  Expected<cuda::Memory> from = context->allocate(result.bytes, "what is read"),
                         to = context->allocate(result.bytes, "a copy");
  if (!from || !to)
    return from ? to.takeError() : from.takeError();
  constexpr uint32_t seed = 1;
  if (Error error = fill(from->address(), result.bytes, 0xFFFFFFFF, 0, seed))
    return error;
  if (Error error = context->fill(to->address(), 0, result.bytes))
    return error;
  for (uint32_t i = 0; i < result.bytes / 4; ++i)
    result.checksum ^= hashWord(i, seed);
  for (uint64_t perMultiprocessor : kBlocks) {
    uint32_t blocks = static_cast<uint32_t>(multiprocessors * perMultiprocessor), threads = blocks * kHelperThreads;
    std::array<uint64_t, 4> arguments = {from->address(), result.bytes / 16, threads, to->address()};
    Expected<double> time =
        timeGraph(*context, [&] { return context->launch(readKernel, {blocks, 1, 1}, kHelperThreads, 0, arguments); });
    if (!time)
      return time.takeError();
    std::vector<uint32_t> sums(threads);
    if (Error error = context->copyOut(sums.data(), to->address(), threads * uint64_t(4)))
      return error;
    if (Error error = context->wait())
      return error;
    uint32_t sum = 0;
    for (uint32_t one : sums)
      sum ^= one;
    if (sum != result.checksum)
      return fail("the device reads something else than it wrote", "device " + device.describe(),
                  "checksum " + std::to_string(result.checksum), std::to_string(sum),
                  "its memory or its driver is damaged");
    result.read = std::max(result.read, static_cast<double>(result.bytes) / *time * 1e3);
  }
  Expected<double> copied =
      timeGraph(*context, [&] { return context->copyWithin(to->address(), from->address(), result.bytes); });
  if (!copied)
    return copied.takeError();
  result.copy = 2 * static_cast<double>(result.bytes) / *copied * 1e3;
  Expected<double> nothing = timeGraph(*context, [&] {
    Error error;
    for (int node = 0; node < nodes && !error; ++node)
      error = context->launch(nothingKernel, {1, 1, 1}, kHelperThreads, 0, {});
    return error;
  });
  if (!nothing)
    return nothing.takeError();
  result.node = *nothing * 1000 / nodes;
  return result;
}
