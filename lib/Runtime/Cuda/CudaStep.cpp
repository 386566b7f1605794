#include "CudaStep.h"

#include "skim/Support/ByteSize.h"

#include <algorithm>
#include <cstring>

using namespace skim;
using namespace skim::cuda;

using Source = LaunchList::Source;

/// Arrays begin where everything that lies in them is aligned.
static constexpr uint64_t kAlignment = 256;
static uint64_t aligned(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

/// Graphs that are kept. A text is decoded by one, a prompt's pieces by two or three.
static constexpr size_t kGraphs = 8;
/// Pieces in which weights go to the device; two are on their way.
static constexpr uint64_t kPiece = uint64_t(16) << 20;

size_t StepState::offset(Source source) const {
  // Wide ones first, so that all are aligned.
  switch (source) {
  case Source::Sampling:
    return 0;
  case Source::Caches:
    return rows * 32;
  case Source::Capacity:
    return rows * 40;
  case Source::Tokens:
    return rows * 48;
  case Source::Start:
    return rows * 52;
  case Source::Count:
    return rows * 56;
  default: // Wanted
    return rows * 60;
  }
}

//===----------------------------------------------------------------------===//
// Loading
//===----------------------------------------------------------------------===//

Expected<std::unique_ptr<DeviceStep>> cuda::createStep(std::shared_ptr<Context> context, const StepCode &code) {
  return CudaStep::create(std::move(context), code);
}

Expected<std::unique_ptr<DeviceStep>> CudaStep::create(std::shared_ptr<Context> context, const StepCode &code) {
  std::unique_ptr<CudaStep> step(new CudaStep(std::move(context), code.maxRows));
  Expected<LaunchList> list =
      LaunchList::parse(code.launches, code.weights.size(), [](const std::string &) { return true; });
  if (!list)
    return list.takeError();
  step->list = std::move(*list);
  step->vocabulary = code.vocabulary;
  Expected<std::unique_ptr<Module>> module = step->context->load(code.ptx, code.cubin, code.chip, code.where);
  if (!module)
    return module.takeError();
  step->module = std::move(*module);
  if (Error error = step->findKernels())
    return error;
  if (step->list.hasProducts()) {
    Expected<std::unique_ptr<Blas>> blas = Blas::load(step->context);
    if (!blas)
      return blas.takeError();
    step->blas = std::move(*blas);
  }
  uint64_t bytes = 0;
  for (const DeviceWeight &weight : code.weights) {
    step->weightAddresses.push_back(bytes);
    bytes += aligned(weight.bytes);
  }
  uint64_t needed = aligned(bytes) + aligned(static_cast<uint64_t>(step->list.scratch)) +
                    aligned(static_cast<uint64_t>(code.vocabulary) * 4) + aligned(step->next.size());
  uint64_t free = step->context->freeBytes();
  if (needed > free)
    return fail("not enough device memory for the model", "device " + step->context->device().describe(),
                formatByteSize(needed) + " and more for caches", formatByteSize(free) + " free",
                "end other programs on it, or use a smaller package");
  auto allocate = [&](Memory &memory, uint64_t size, const char *what) {
    Expected<Memory> made = step->context->allocate(size, what);
    if (made)
      memory = std::move(*made);
    return made.takeError();
  };
  if (Error error = allocate(step->weights, bytes, "the weights"))
    return error;
  if (Error error = allocate(step->scratch, static_cast<uint64_t>(step->list.scratch), "intermediate results"))
    return error;
  if (Error error = allocate(step->state, step->next.size(), "the arguments"))
    return error;
  if (Error error = allocate(step->chosen, static_cast<uint64_t>(code.maxRows) * 4, "chosen tokens"))
    return error;
  if (Error error = step->makeRoom(1))
    return error;
  for (uint64_t &address : step->weightAddresses)
    address += step->weights.address();
  for (size_t i = 0; code.makeWeight && i < step->weightAddresses.size(); ++i)
    if (Error error = code.makeWeight(i, step->weightAddresses[i]))
      return error;
  if (!code.makeWeight)
    if (Error error = step->copyWeights(code.weights))
      return error;
  // Launches count blocks in it from zero on; rows that a step does not have are read and go nowhere.
  if (Error error = step->context->fill(step->scratch.address(), 0, step->scratch.size()))
    return error;
  if (Error error = step->context->wait())
    return error;
  // From here on the arguments and the chosen tokens.
  Expected<Memory> staging = step->context->allocatePinned(
      aligned(step->next.size()) + static_cast<uint64_t>(code.maxRows) * 4, "a step's arguments");
  if (!staging)
    return staging.takeError();
  step->staging = std::move(*staging);
  return std::unique_ptr<DeviceStep>(std::move(step));
}

CudaStep::~CudaStep() {
  // Memory goes when nobody works on it; what failed has been said.
  (void)context->wait();
}

Error CudaStep::findKernels() {
  auto find = [&](const LaunchList::Launch &launch) -> Error {
    if (launch.product)
      return Error::success();
    Expected<Function> function = module->function(launch.kernel, launch.shared);
    if (!function)
      return function.takeError();
    if (launch.threads > static_cast<uint32_t>(function->maxThreads))
      return fail("too many threads for kernel " + launch.kernel, "device " + context->device().describe(),
                  "at most " + std::to_string(function->maxThreads), std::to_string(launch.threads));
    functions.insert_or_assign(launch.kernel, *function);
    return Error::success();
  };
  for (const LaunchList::Variant &variant : list.variants)
    for (const LaunchList::Launch &launch : variant.launches)
      if (Error error = find(launch))
        return error;
  for (const LaunchList::Launch &launch : list.sampling)
    if (Error error = find(launch))
      return error;
  return Error::success();
}

/// Through two pieces of pinned memory: while one is on its way, the other is
/// filled from the mapped file.
Error CudaStep::copyWeights(std::span<const DeviceWeight> source) {
  uint64_t total = weights.size(), piece = std::min(kPiece, aligned(total));
  Expected<Memory> pinned = context->allocatePinned(2 * piece, "copying weights");
  if (!pinned)
    return pinned.takeError();
  std::array<std::unique_ptr<Context::Event>, 2> done;
  for (auto &event : done) {
    Expected<std::unique_ptr<Context::Event>> made = context->event(/*timed=*/false);
    if (!made)
      return made.takeError();
    event = std::move(*made);
  }
  size_t index = 0; // the first weight that reaches into the piece
  for (uint64_t begin = 0, turn = 0; begin < total; begin += piece, ++turn) {
    uint64_t end = std::min(begin + piece, total);
    uint8_t *buffer = pinned->host() + turn % 2 * piece;
    if (turn >= 2)
      if (Error error = context->wait(*done[turn % 2]))
        return error;
    std::memset(buffer, 0, end - begin); // also between weights
    for (size_t i = index; i < source.size(); ++i) {
      uint64_t first = weightAddresses[i] - weights.address(), last = first + source[i].bytes;
      if (first >= end)
        break;
      if (last <= begin) {
        index = i + 1;
        continue;
      }
      uint64_t from = std::max(first, begin), to = std::min(last, end);
      std::memcpy(buffer + (from - begin), static_cast<const uint8_t *>(source[i].data) + (from - first), to - from);
    }
    if (Error error = context->copyIn(weights.address() + begin, buffer, end - begin))
      return error;
    if (Error error = context->mark(*done[turn % 2]))
      return error;
  }
  // The pinned memory goes with this scope.
  return context->wait();
}

Error CudaStep::makeRoom(int64_t wantedRows) {
  if (wantedRows <= logitRows)
    return Error::success();
  graphs.clear(); // they hold the old address
  logits = Memory();
  logitRows = 0;
  Expected<Memory> made = context->allocate(static_cast<uint64_t>(wantedRows * vocabulary) * 4, "logits");
  if (!made)
    return made.takeError();
  logits = std::move(*made);
  logitRows = wantedRows;
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Steps
//===----------------------------------------------------------------------===//

void CudaStep::describe(const skim_step_args &args, std::span<const SampleState> states) {
  auto put = [](auto *to, const auto *from, int64_t count) {
    if (count)
      std::memcpy(to, from, static_cast<size_t>(count) * sizeof *from);
  };
  put(next.numbers(Source::Tokens), args.tokens, args.batch * args.length);
  put(next.numbers(Source::Start), args.start, args.batch);
  put(next.numbers(Source::Count), args.count, args.batch);
  put(next.numbers(Source::Wanted), args.rows, args.num_rows);
  put(next.wide(Source::Caches), args.caches, args.batch);
  put(next.wide(Source::Capacity), args.capacity, args.batch);
  put(next.sampling(), states.data(), static_cast<int64_t>(states.size()));
}

Error CudaStep::launch(std::span<const LaunchList::Launch> launches, const LaunchValues &values) {
  std::vector<uint64_t> arguments;
  for (const LaunchList::Launch &one : launches) {
    if (one.product) {
      auto at = [&](size_t i) { return values.of(one.arguments[i]); };
      if (int64_t rows = values.productRows(one))
        if (Error error = blas->multiply({.n = one.product->n,
                                          .k = one.product->k,
                                          .rows = rows,
                                          .stride = static_cast<int64_t>(at(3)),
                                          .bf16 = one.product->bf16,
                                          .add = one.product->add,
                                          .floats = true},
                                         at(0), at(1), at(2)))
          return error;
      continue;
    }
    std::array<uint32_t, 3> grid = values.grid(one);
    if (grid[0] == 0)
      continue;
    arguments.clear();
    for (const LaunchList::Argument &argument : one.arguments)
      arguments.push_back(values.of(argument));
    if (Error error = context->launch(functions.find(one.kernel)->second, grid, one.threads, one.shared, arguments))
      return error;
  }
  return Error::success();
}

Error CudaStep::launchStep(const LaunchList::Variant &variant, const LaunchValues &values, bool sampling) {
  if (Error error = launch(variant.launches, values))
    return error;
  if (!sampling)
    return Error::success();
  if (Error error = launch(list.sampling, values))
    return error;
  return context->copyOut(staging.host() + aligned(next.size()), chosen.address(),
                          static_cast<uint64_t>(values.wantedRows) * 4);
}

Error CudaStep::step(const skim_step_args &args, std::span<SampleState> states, int32_t *tokens) {
  std::lock_guard<std::mutex> lock(mutex);
  LaunchValues values;
  values.rows = args.batch * args.length;
  values.wantedRows = args.num_rows;
  values.length = args.length;
  values.weights = weightAddresses;
  Expected<const LaunchList::Variant *> variant = list.choose(std::max(values.rows, args.num_rows));
  if (!variant)
    return variant.takeError();
  if (values.rows > maxRows || args.num_rows > maxRows)
    return fail("too many rows in a step", "", std::to_string(maxRows), std::to_string(values.rows));
  if (Error error = makeRoom(args.num_rows))
    return error;
  for (Source source : {Source::Tokens, Source::Start, Source::Count, Source::Wanted, Source::Caches, Source::Capacity,
                        Source::Sampling})
    values.at(source) = state.address() + next.offset(source);
  values.at(Source::Scratch) = scratch.address();
  values.at(Source::Logits) = logits.address();
  values.at(Source::Chosen) = chosen.address();

  // After a step that chose its tokens, the device has the next step's arguments already.
  next = there;
  describe(args, states);
  if (!stateKnown || next != there) {
    std::memcpy(staging.host(), next.data(), next.size());
    if (Error error = context->copyIn(state.address(), staging.host(), next.size()))
      return error;
  }
  stateKnown = false; // until the step is done

  bool sampling = !states.empty();
  Shape shape{(*variant)->rows, values.rows, args.length, args.num_rows, sampling};
  auto known = std::find_if(graphs.begin(), graphs.end(), [&](const Recorded &one) { return one.shape == shape; });
  auto launches = [&] { return launchStep(**variant, values, sampling); };
  if (known == graphs.end()) {
    // What comes once is not worth recording.
    graphs.push_front({shape, nullptr});
    if (graphs.size() > kGraphs)
      graphs.pop_back();
    if (Error error = launches())
      return error;
  } else {
    graphs.splice(graphs.begin(), graphs, known);
    if (!known->graph) {
      Expected<std::unique_ptr<Graph>> graph = context->record(launches);
      if (!graph)
        return graph.takeError();
      known->graph = std::move(*graph);
    }
    if (Error error = context->launch(*known->graph))
      return error;
  }
  if (!sampling && args.num_rows)
    if (Error error =
            context->copyOut(args.logits, logits.address(), static_cast<uint64_t>(args.num_rows * vocabulary) * 4))
      return error;
  if (Error error = context->wait())
    return error;

  there = next;
  stateKnown = true;
  if (!sampling)
    return Error::success();
  const auto *picked = reinterpret_cast<const int32_t *>(staging.host() + aligned(next.size()));
  for (size_t b = 0; b < states.size(); ++b) {
    // As the kernel leaves them (DeviceStep.h).
    tokens[b] = picked[b];
    there.numbers(Source::Tokens)[b] = picked[b];
    there.numbers(Source::Start)[b] += args.count[b];
    there.numbers(Source::Count)[b] = 1;
    there.numbers(Source::Wanted)[b] = static_cast<int32_t>(b);
    states[b].counter += states[b].temperature > 0;
    there.sampling()[b] = states[b];
  }
  return Error::success();
}

Error CudaStep::run(const skim_step_args &args) { return step(args, {}, nullptr); }

Error CudaStep::sample(const skim_step_args &args, std::span<SampleState> states, int32_t *tokens) {
  return step(args, states, tokens);
}

//===----------------------------------------------------------------------===//
// Caches
//===----------------------------------------------------------------------===//

Expected<void *> CudaStep::allocate(uint64_t bytes, const std::string &what) {
  Expected<Memory> memory = context->allocate(bytes, what);
  if (!memory)
    return memory.takeError();
  void *address = reinterpret_cast<void *>(memory->address());
  std::lock_guard<std::mutex> lock(mutex);
  blocks.emplace(address, std::move(*memory));
  return address;
}

void CudaStep::release(void *memory) {
  std::lock_guard<std::mutex> lock(mutex);
  blocks.erase(memory);
}

Error CudaStep::copy(std::span<const Copy> copies) {
  std::lock_guard<std::mutex> lock(mutex);
  for (const Copy &piece : copies)
    if (Error error = context->copyWithin(reinterpret_cast<uintptr_t>(piece.to),
                                          reinterpret_cast<uintptr_t>(piece.from), piece.bytes))
      return error;
  return context->wait();
}
