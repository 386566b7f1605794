//===- Model.h - a loaded package and the texts that run on it ---*- C++ -*-===//
#ifndef SKIM_LIB_RUNTIME_MODEL_H
#define SKIM_LIB_RUNTIME_MODEL_H

#include "Region.h"
#include "skim-rt/abi.h"
#include "skim-rt/skim_rt.h"
#include "skim/Runtime/DeviceStep.h"
#include "skim/Runtime/Manifest.h"
#include "skim/Runtime/ThreadPool.h"
#include "skim/Support/Safetensors.h"
#include "skim/Tokenizer/Tokenizer.h"

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

namespace skim::rt {

/// A program's shared object.
class Code {
public:
  /// Loads `path` if its SHA-256 is `sha256`, and finds the functions of abi.h;
  /// a GPU's has no step.
  static Expected<Code> load(const std::string &path, const std::string &sha256, bool hasStep = true);
  Code(Code &&other) noexcept;
  Code &operator=(Code &&) = delete;
  ~Code();

  skim_step_fn step = nullptr;
  skim_sample_fn sample = nullptr;

private:
  Code() = default;
  void *handle = nullptr;
};

class Session;

/// A mutex that is given in the order in which it was asked for: a thread that
/// decodes in a loop must not keep the others out.
class FairMutex {
public:
  void lock() {
    std::unique_lock<std::mutex> guard(mutex);
    uint64_t ticket = issued++;
    turn.wait(guard, [&] { return serving == ticket; });
  }
  void unlock() {
    std::lock_guard<std::mutex> guard(mutex);
    ++serving;
    turn.notify_all();
  }

private:
  std::mutex mutex;
  std::condition_variable turn;
  uint64_t issued = 0, serving = 0;
};

/// Everything of a package that sessions share. Steps are serialised by a mutex.
class Model {
public:
  struct Options {
    int64_t capacity = 0;
    unsigned threads = 0;
    int64_t maxRows = 0;
    std::string target;
    bool pin = false;
    int device = 0;
  };
  static Expected<std::shared_ptr<Model>> open(const std::string &folder, const Options &options);

  const Manifest &manifest() const { return about; }
  const Program &program() const { return about.program; }
  int64_t defaultCapacity() const { return capacity; }
  int64_t maxRows() const { return rowLimit; }
  int32_t threads() const { return pool.threads(); }
  uint64_t weightBytes() const { return bytesOfWeights; }
  uint64_t fileBytes() const { return weights.file().size(); }
  uint64_t scratchBytes() const { return scratch.size(); }

  /// One sequence's part of a step.
  struct Sequence {
    Session *session;
    std::span<const int32_t> tokens;
    skim_rt_logits wanted;
  };
  /// Checks everything, then runs. See skim_rt_step.
  Error step(std::span<const Sequence> sequences, float *logits);
  /// Chooses a token for each sequence. See skim_rt_next.
  Error next(std::span<const Sequence> sequences, std::span<const skim_rt_sampling> sampling,
             std::span<skim_rt_random> random, std::span<int32_t> tokens);

  /// See skim_rt_sample.
  Expected<int32_t> sample(const float *logits, const skim_rt_sampling &sampling, skim_rt_random *random);

  /// The package's tokenizer, read at the first call; that call's error ever after.
  Expected<const Tokenizer *> tokenizer();

  /// Null: the model runs on the CPU.
  DeviceStep *device() const { return deviceStep.get(); }

private:
  Model(Manifest manifest, SafetensorsFile weights, Code code, ThreadPool::Options threads)
      : about(std::move(manifest)), weights(std::move(weights)), code(std::move(code)), pool(threads) {}

  /// Where tokens are chosen rather than logits given: states and tokens of the sequences.
  struct Choice {
    std::span<SampleState> states;
    std::span<int32_t> tokens;
  };
  Error step(std::span<const Sequence> sequences, float *logits, const Choice &choice);
  Error runBlocks(std::span<const Sequence> sequences, float *logits, const Choice &choice);
  /// One call of the generated step; the sequences fit into max_rows.
  Error runBlock(std::span<const Sequence> block, int64_t length, float *logits, const Choice &choice);
  Expected<int32_t> choose(const float *logits, const SampleState &state, float uniform);
  /// How many sequences from the front of `rest` should share a step.
  size_t blockSize(std::span<const Sequence> rest) const;

  Manifest about;
  SafetensorsFile weights;
  Code code;
  std::unique_ptr<DeviceStep> deviceStep; // instead of code.step
  ThreadPool pool;
  int64_t capacity = 0;
  int64_t rowLimit = 0;
  uint64_t bytesOfWeights = 0;
  std::vector<const void *> weightPointers;

  FairMutex stepMutex; // guards what follows and the pool
  Region scratch;
  std::vector<int32_t> tokens, start, count, rows;
  std::vector<void *> caches;
  std::vector<int64_t> capacities;
  std::vector<float> rowsToChooseFrom;

  std::mutex tokenizerMutex;
  bool tokenizerRead = false;
  Error tokenizerError;
  std::unique_ptr<Tokenizer> loadedTokenizer;
};

/// A text's cache block, on the host or where the model's steps run.
class CacheMemory {
public:
  static Expected<CacheMemory> allocate(Model &model, uint64_t bytes, const std::string &what);
  CacheMemory(CacheMemory &&other) noexcept;
  CacheMemory &operator=(CacheMemory &&) = delete;
  ~CacheMemory();
  uint8_t *data() const { return onDevice ? onDevice : region.data(); }

private:
  explicit CacheMemory(Model &model) : model(&model) {}
  Model *model; // outlives this
  Region region;
  uint8_t *onDevice = nullptr;
};

/// The cache of one text.
class Session {
public:
  static Expected<std::unique_ptr<Session>> create(std::shared_ptr<Model> model, int64_t capacity);
  Expected<std::unique_ptr<Session>> fork(int64_t capacity);
  Error truncate(int64_t length);
  int64_t length() const { return used.load(std::memory_order_relaxed); }
  int64_t capacity() const { return limit; }
  Model &model() const { return *owner; }
  const std::shared_ptr<Model> &sharedModel() const { return owner; }

private:
  friend class Model;
  Session(std::shared_ptr<Model> model, CacheMemory cache, int64_t limit)
      : owner(std::move(model)), cache(std::move(cache)), limit(limit) {}
  std::shared_ptr<Model> owner;
  CacheMemory cache;
  int64_t limit;
  std::mutex mutex; // held while the cache or its length changes, before the model's stepMutex
  std::atomic<int64_t> used{0};
};

} // namespace skim::rt

#endif // SKIM_LIB_RUNTIME_MODEL_H
