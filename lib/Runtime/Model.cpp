#include "Model.h"
#include "Device.h"
#include "skim/Support/ByteSize.h"
#include "skim/Support/Threads.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

using namespace skim;
using namespace skim::rt;

static constexpr unsigned maxThreads = 1024;

//===----------------------------------------------------------------------===//
// Opening
//===----------------------------------------------------------------------===//

Expected<std::shared_ptr<Model>> Model::open(const std::string &folder, const Options &options) {
  if (options.threads > maxThreads)
    return fail("invalid number of threads", "", "0 to " + std::to_string(maxThreads), std::to_string(options.threads));
  Expected<std::string> target = chooseTarget(folder, options.target, options.device);
  if (!target)
    return target.takeError();
  Expected<Manifest> manifest = readManifest(folder, *target);
  if (!manifest)
    return manifest.takeError();
  const Program &program = manifest->program;
  if (options.capacity < 0 || options.capacity > program.context)
    return fail("invalid capacity", folder,
                "0 to the model's context of " + std::to_string(program.context) + " tokens",
                std::to_string(options.capacity));
  if (options.maxRows < 0)
    return fail("invalid max_rows", "", "0 or more", std::to_string(options.maxRows));

  Expected<SafetensorsFile> weights = SafetensorsFile::open(manifest->path(program.weightsFile));
  if (!weights)
    return weights.takeError();
  std::vector<const void *> pointers;
  uint64_t bytes = 0;
  for (size_t i = 0; i < program.weights.size(); ++i) {
    const std::string &name = program.weights[i];
    Expected<const TensorInfo *> info = weights->get(name);
    if (!info)
      return info.takeError();
    if ((*info)->bytes != static_cast<uint64_t>(program.weightBytes[i]))
      return fail("code and weights disagree", weights->path() + " /" + name,
                  std::to_string(program.weightBytes[i]) + " bytes", std::to_string((*info)->bytes),
                  "the weights are of another package");
    const uint8_t *data = weights->file().begin() + (*info)->offset;
    if (reinterpret_cast<uintptr_t>(data) % 64)
      return fail("misaligned tensor", weights->path() + " /" + name, "data at a multiple of 64 bytes",
                  "byte " + std::to_string((*info)->offset));
    pointers.push_back(data);
    bytes += (*info)->bytes;
  }
  // Starts reading from disk what is not in the page cache, while the rest goes on.
  weights->file().willNeed(0, weights->file().size());

  Expected<Code> code = Code::load(manifest->path(program.code), program.codeSha256, program.launches.empty());
  if (!code)
    return code.takeError();
  std::unique_ptr<DeviceStep> device;
  if (!program.launches.empty()) {
    std::vector<DeviceWeight> deviceWeights;
    for (size_t i = 0; i < pointers.size(); ++i)
      deviceWeights.push_back({program.weights[i], pointers[i], static_cast<uint64_t>(program.weightBytes[i])});
    Expected<std::unique_ptr<DeviceStep>> step = openDevice(*manifest, deviceWeights, options.device);
    if (!step)
      return step.takeError();
    device = std::move(*step);
  }

  int64_t rowLimit = options.maxRows ? std::min(options.maxRows, program.maxRows) : program.maxRows;
  std::optional<uint64_t> scratchBytes = program.scratchBytes(rowLimit, resolveThreads(options.threads));
  if (!scratchBytes)
    return fail("scratch memory is too large", folder, "fewer than 2^62 bytes", "more", "the manifest may be damaged");
  Expected<Region> scratch =
      Region::allocate(*scratchBytes, "scratch of " + std::to_string(rowLimit) + " rows", Region::Pages::Huge);
  if (!scratch)
    return scratch.takeError();

  ThreadPool::Options threads;
  threads.threads = options.threads;
  threads.pin = options.pin;
  std::shared_ptr<Model> model(new Model(std::move(*manifest), std::move(*weights), std::move(*code), threads));
  model->capacity = options.capacity ? options.capacity : model->program().context;
  model->rowLimit = rowLimit;
  model->bytesOfWeights = bytes;
  model->weightPointers = std::move(pointers);
  model->scratch = std::move(*scratch);
  model->deviceStep = std::move(device);
  return model;
}

//===----------------------------------------------------------------------===//
// Steps
//===----------------------------------------------------------------------===//

static int64_t wantedRows(const Model::Sequence &sequence) {
  switch (sequence.wanted) {
  case SKIM_RT_LOGITS_NONE:
    return 0;
  case SKIM_RT_LOGITS_LAST:
    return 1;
  case SKIM_RT_LOGITS_ALL:
    return static_cast<int64_t>(sequence.tokens.size());
  }
  return 0;
}

Error Model::runBlock(std::span<const Sequence> block, int64_t length, float *logits, const Choice &choice) {
  size_t batch = block.size();
  tokens.assign(batch * static_cast<size_t>(length), 0);
  start.clear();
  count.clear();
  rows.clear();
  caches.clear();
  capacities.clear();
  for (size_t b = 0; b < batch; ++b) {
    const Sequence &sequence = block[b];
    int32_t first = static_cast<int32_t>(b * static_cast<size_t>(length));
    int32_t valid = static_cast<int32_t>(sequence.tokens.size());
    std::copy(sequence.tokens.begin(), sequence.tokens.end(), tokens.begin() + first);
    start.push_back(static_cast<int32_t>(sequence.session->length()));
    count.push_back(valid);
    for (int32_t s = valid - static_cast<int32_t>(wantedRows(sequence)); s < valid; ++s)
      rows.push_back(first + s);
    caches.push_back(sequence.session->cache.data());
    capacities.push_back(sequence.session->capacity());
  }
  skim_step_args args{};
  args.batch = static_cast<int64_t>(batch);
  args.length = length;
  args.tokens = tokens.data();
  args.start = start.data();
  args.count = count.data();
  args.num_rows = static_cast<int64_t>(rows.size());
  args.rows = rows.data();
  args.caches = caches.data();
  args.capacity = capacities.data();
  args.weights = weightPointers.data();
  args.logits = logits;
  args.scratch = scratch.data();
  args.barrier = ThreadPool::barrierCallback;
  args.barrier_context = &pool;
  // Tokens are chosen where every sequence of the block wants its last row.
  bool choosing = !choice.states.empty() && args.num_rows > 0;
  if (choosing && deviceStep && deviceStep->samples()) {
    if (Error error = deviceStep->sample(args, choice.states, choice.tokens.data()))
      return error;
    choosing = false;
  } else {
    if (choosing) {
      rowsToChooseFrom.resize(static_cast<size_t>(args.num_rows * program().vocabulary));
      args.logits = rowsToChooseFrom.data();
    }
    if (deviceStep) {
      if (Error error = deviceStep->run(args))
        return error;
    } else {
      pool.run([&](int32_t thread, int32_t threads) { code.step(&args, thread, threads); });
    }
  }
  for (size_t b = 0; choosing && b < batch; ++b) {
    SampleState &state = choice.states[b];
    skim_rt_random random{state.seed, state.counter};
    Expected<int32_t> token = choose(args.logits + static_cast<int64_t>(b) * program().vocabulary, state,
                                     state.temperature > 0 ? skim_rt_uniform(&random) : 0.0f);
    if (!token)
      return token.takeError();
    choice.tokens[b] = *token;
    state.counter = random.counter;
  }
  for (const Sequence &sequence : block)
    sequence.session->used.fetch_add(static_cast<int64_t>(sequence.tokens.size()), std::memory_order_relaxed);
  return Error::success();
}

size_t Model::blockSize(std::span<const Sequence> rest) const {
  int64_t longest = 0, valid = 0;
  size_t size = 0;
  for (const Sequence &sequence : rest) {
    int64_t count = static_cast<int64_t>(sequence.tokens.size());
    int64_t rows = static_cast<int64_t>(size + 1) * std::max(longest, count);
    // Padding is computed for nothing: rather another step than more of it than of tokens.
    if (size && (rows > rowLimit || rows > 2 * (valid + count)))
      break;
    longest = std::max(longest, count);
    valid += count;
    ++size;
  }
  return size;
}

Error Model::step(std::span<const Sequence> sequences, float *logits) { return step(sequences, logits, {}); }

Error Model::step(std::span<const Sequence> sequences, float *logits, const Choice &choice) {
  if (sequences.empty())
    return fail("empty step", "", "at least one sequence", "none");
  int64_t vocabulary = program().vocabulary, wanted = 0;
  for (size_t b = 0; b < sequences.size(); ++b) {
    const Sequence &sequence = sequences[b];
    std::string where = sequences.size() > 1 ? "sequence " + std::to_string(b) : std::string();
    if (sequence.tokens.empty())
      return fail("empty input", where, "at least one token", "none");
    for (size_t i = 0; i < sequence.tokens.size(); ++i)
      if (sequence.tokens[i] < 0 || sequence.tokens[i] >= vocabulary)
        return fail("token out of range", where + (where.empty() ? "" : ", ") + "token " + std::to_string(i),
                    "an id from 0 to " + std::to_string(vocabulary - 1), std::to_string(sequence.tokens[i]));
    wanted += wantedRows(sequence);
  }
  if (wanted && !logits && choice.states.empty())
    return fail("invalid argument", "logits", "memory for " + std::to_string(wanted) + " rows", "null");
  if (!pool.usable())
    return fail("cannot run a model", "", "the process that opened it", "a child made by fork",
                "open the model again in the child");

  // One order for everybody who locks several sessions; equal neighbours are duplicates.
  std::vector<Session *> sessions;
  for (const Sequence &sequence : sequences)
    sessions.push_back(sequence.session);
  std::sort(sessions.begin(), sessions.end(), std::less<Session *>());
  if (std::adjacent_find(sessions.begin(), sessions.end()) != sessions.end())
    return fail("session given twice", "", "distinct sessions in one step", "a repeated one");
  for (Session *session : sessions)
    if (&session->model() != this)
      return fail("session of another model", "", "sessions of one model in a step", "several models");
  std::vector<std::unique_lock<std::mutex>> locks;
  locks.reserve(sessions.size());
  for (Session *session : sessions)
    locks.emplace_back(session->mutex);
  for (size_t b = 0; b < sequences.size(); ++b) {
    const Session &session = *sequences[b].session;
    int64_t room = session.capacity() - session.length(), count = static_cast<int64_t>(sequences[b].tokens.size());
    if (count > room)
      return fail("text is longer than the session", sequences.size() > 1 ? "sequence " + std::to_string(b) : "",
                  "at most " + std::to_string(room) + " more tokens (" + std::to_string(session.length()) + " of " +
                      std::to_string(session.capacity()) + " are used)",
                  std::to_string(count),
                  session.capacity() < program().context ? "the model's context is " + std::to_string(program().context)
                                                         : "this is the model's context");
  }

  std::lock_guard<FairMutex> lock(stepMutex);
  std::vector<int64_t> lengths;
  for (const Sequence &sequence : sequences)
    lengths.push_back(sequence.session->length());
  Error error = runBlocks(sequences, logits, choice);
  // What was appended before the failure is as if it never was.
  for (size_t b = 0; error && b < sequences.size(); ++b)
    sequences[b].session->used.store(lengths[b], std::memory_order_relaxed);
  return error;
}

Error Model::runBlocks(std::span<const Sequence> sequences, float *logits, const Choice &choice) {
  int64_t vocabulary = program().vocabulary;
  for (size_t b = 0; b < sequences.size();) {
    std::span<const Sequence> block = sequences.subspan(b, blockSize(sequences.subspan(b)));
    int64_t length = 0, outputs = 0;
    for (const Sequence &sequence : block) {
      length = std::max(length, static_cast<int64_t>(sequence.tokens.size()));
      outputs += wantedRows(sequence);
    }
    float *next = logits ? logits + outputs * vocabulary : nullptr;
    Choice chosen;
    if (!choice.states.empty())
      chosen = {choice.states.subspan(b, block.size()), choice.tokens.subspan(b, block.size())};
    b += block.size();
    if (length <= rowLimit) {
      if (Error error = runBlock(block, length, logits, chosen))
        return error;
    } else {
      // A text longer than a step is alone in its block.
      Sequence piece = block.front();
      std::span<const int32_t> rest = piece.tokens;
      while (!rest.empty()) {
        piece.tokens = rest.first(std::min(rest.size(), static_cast<size_t>(rowLimit)));
        rest = rest.subspan(piece.tokens.size());
        piece.wanted = block.front().wanted;
        if (piece.wanted == SKIM_RT_LOGITS_LAST && !rest.empty())
          piece.wanted = SKIM_RT_LOGITS_NONE;
        if (Error error = runBlock(std::span(&piece, 1), static_cast<int64_t>(piece.tokens.size()), logits, chosen))
          return error;
        if (logits)
          logits += wantedRows(piece) * vocabulary;
      }
    }
    logits = next;
  }
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Sampling and text
//===----------------------------------------------------------------------===//

/// What skim_rt_sampling may say; `random` is needed where numbers are drawn.
static Error checkSampling(const skim_rt_sampling &sampling, bool hasRandom) {
  // Negated comparisons: NaN must fail them.
  if (!(sampling.temperature < INFINITY))
    return fail("invalid sampling", "temperature", "a finite number", std::to_string(sampling.temperature));
  if (sampling.top_k < 0)
    return fail("invalid sampling", "top_k", "0 or more", std::to_string(sampling.top_k));
  if (!(sampling.top_p > 0 && sampling.top_p <= 1))
    return fail("invalid sampling", "top_p", "a number over 0 and at most 1", std::to_string(sampling.top_p));
  if (sampling.temperature > 0 && !hasRandom)
    return fail("invalid sampling", "random", "a random stream for a temperature over 0", "null");
  return Error::success();
}

static SampleState stateOf(const skim_rt_sampling &sampling, const skim_rt_random *random) {
  SampleState state{};
  state.temperature = sampling.temperature > 0 ? sampling.temperature : 0.0f;
  state.topK = sampling.top_k;
  state.topP = sampling.top_p;
  if (random && sampling.temperature > 0) {
    state.seed = random->seed;
    state.counter = random->counter;
  }
  return state;
}

Expected<int32_t> Model::sample(const float *logits, const skim_rt_sampling &sampling, skim_rt_random *random) {
  if (Error error = checkSampling(sampling, random != nullptr))
    return error;
  return choose(logits, stateOf(sampling, nullptr), sampling.temperature > 0 ? skim_rt_uniform(random) : 0.0f);
}

Expected<int32_t> Model::choose(const float *logits, const SampleState &state, float uniform) {
  // Samples of several threads do not wait for each other; a few hundred KiB a thread at most.
  static thread_local Region memory;
  if (memory.size() < static_cast<uint64_t>(program().sampleScratch)) {
    Expected<Region> bigger =
        Region::allocate(static_cast<uint64_t>(program().sampleScratch), "sampling", Region::Pages::Small);
    if (!bigger)
      return bigger.takeError();
    memory = std::move(*bigger);
  }
  int32_t token =
      code.sample(logits, program().vocabulary, state.temperature, state.topK, state.topP, uniform, memory.data());
  if (token < 0 || token >= program().vocabulary)
    return fail("sampling found no token", "", "an id below " + std::to_string(program().vocabulary),
                std::to_string(token), "the logits may hold NaN");
  return token;
}

Error Model::next(std::span<const Sequence> sequences, std::span<const skim_rt_sampling> sampling,
                  std::span<skim_rt_random> random, std::span<int32_t> tokens) {
  std::vector<Sequence> wanting(sequences.begin(), sequences.end());
  std::vector<SampleState> states;
  for (size_t b = 0; b < wanting.size(); ++b) {
    skim_rt_sampling how = sampling.empty() ? skim_rt_sampling{0, 0, 1} : sampling[b];
    if (Error error = checkSampling(how, !random.empty()))
      return error;
    wanting[b].wanted = SKIM_RT_LOGITS_LAST;
    states.push_back(stateOf(how, random.empty() ? nullptr : &random[b]));
  }
  std::vector<int32_t> chosen(wanting.size());
  if (Error error = step(wanting, nullptr, {states, chosen}))
    return error;
  std::copy(chosen.begin(), chosen.end(), tokens.begin());
  for (size_t b = 0; b < states.size(); ++b)
    if (states[b].temperature > 0)
      random[b].counter = states[b].counter;
  return Error::success();
}

Expected<const Tokenizer *> Model::tokenizer() {
  if (about.tokenizerFile.empty())
    return fail("package without tokenizer", about.folder, "a tokenizer file", "none",
                "use token ids, or quantize with --tokenizer");
  std::lock_guard<std::mutex> lock(tokenizerMutex);
  if (!tokenizerRead) {
    tokenizerRead = true;
    Expected<std::unique_ptr<Tokenizer>> loaded = Tokenizer::load(about.path(about.tokenizerFile));
    if (loaded)
      loadedTokenizer = std::move(*loaded);
    else
      tokenizerError = loaded.takeError();
  }
  if (tokenizerError)
    return Expected<const Tokenizer *>(tokenizerError);
  return loadedTokenizer.get();
}

//===----------------------------------------------------------------------===//
// Sessions
//===----------------------------------------------------------------------===//

Expected<CacheMemory> CacheMemory::allocate(Model &model, uint64_t bytes, const std::string &what) {
  CacheMemory memory(model);
  if (DeviceStep *device = model.device()) {
    Expected<void *> given = device->allocate(bytes, what);
    if (!given)
      return given.takeError();
    memory.onDevice = static_cast<uint8_t *>(*given);
  }
  if (!memory.onDevice) {
    // Small pages: huge ones would make the first token of [heads, capacity, dim] touch all of it.
    Expected<Region> region = Region::allocate(bytes, what, Region::Pages::Small);
    if (!region)
      return region.takeError();
    memory.region = std::move(*region);
  }
  return memory;
}

CacheMemory::CacheMemory(CacheMemory &&other) noexcept
    : model(other.model), region(std::move(other.region)), onDevice(std::exchange(other.onDevice, nullptr)) {}

CacheMemory::~CacheMemory() {
  if (onDevice)
    model->device()->release(onDevice);
}

Expected<std::unique_ptr<Session>> Session::create(std::shared_ptr<Model> model, int64_t capacity) {
  const Program &program = model->program();
  if (capacity < 0 || capacity > program.context)
    return fail("invalid capacity", "session",
                "0 to the model's context of " + std::to_string(program.context) + " tokens", std::to_string(capacity));
  if (capacity == 0)
    capacity = model->defaultCapacity();
  int64_t bytes;
  if (__builtin_mul_overflow(capacity, program.cacheBytesPerToken(), &bytes))
    return fail("cache is too large", "session", "fewer than 2^63 bytes", "more", "the manifest may be damaged");
  Expected<CacheMemory> cache =
      CacheMemory::allocate(*model, static_cast<uint64_t>(bytes), "a cache of " + std::to_string(capacity) + " tokens");
  if (!cache)
    return cache.takeError();
  return std::unique_ptr<Session>(new Session(std::move(model), std::move(*cache), capacity));
}

Expected<std::unique_ptr<Session>> Session::fork(int64_t capacity) {
  std::lock_guard<std::mutex> lock(mutex);
  int64_t length = this->length();
  if (capacity != 0 && capacity < length)
    return fail("invalid capacity", "fork", "at least the " + std::to_string(length) + " tokens in use",
                std::to_string(capacity));
  Expected<std::unique_ptr<Session>> copy = create(owner, capacity ? capacity : limit);
  if (!copy)
    return copy;
  // Heads of a tensor lie `capacity` tokens apart.
  const uint8_t *from = cache.data();
  uint8_t *to = (*copy)->cache.data();
  std::vector<DeviceStep::Copy> copies;
  for (const CacheSpec &spec : owner->program().caches) {
    size_t token = static_cast<size_t>(spec.dim * spec.bytesPerElement);
    for (int64_t head = 0; head < spec.heads; ++head) {
      copies.push_back({to, from, static_cast<size_t>(length) * token});
      from += static_cast<size_t>(limit) * token;
      to += static_cast<size_t>((*copy)->limit) * token;
    }
  }
  if (DeviceStep *device = owner->device()) {
    if (Error error = device->copy(copies))
      return error;
  } else {
    for (const DeviceStep::Copy &piece : copies)
      std::memcpy(piece.to, piece.from, piece.bytes);
  }
  (*copy)->used.store(length, std::memory_order_relaxed);
  return copy;
}

Error Session::truncate(int64_t length) {
  std::lock_guard<std::mutex> lock(mutex);
  if (length < 0 || length > this->length())
    return fail("invalid length", "truncate", "0 to the " + std::to_string(this->length()) + " tokens in use",
                std::to_string(length));
  used.store(length, std::memory_order_relaxed);
  return Error::success();
}
