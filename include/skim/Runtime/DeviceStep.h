//===- DeviceStep.h - a model's step as launches on a device ----*- C++ -*-===//
//
// A step on a device is a list of launches (JSON, written by skim::device::
// generateStep):
//   { "version": 1, "scratch": bytes,
//     "variants": [ { "rows": most rows, "launches": [
//       { "kernel": name, "grid": [x, y, z], "threads": of a block, "shared": dynamic bytes, "wanted": bool,
//         "arguments": [ [kind, value, offset], … ] } ] } ],
//     "sampling": [ launches ] }
// The variant with the fewest rows that suffice runs. Blocks x = 0: one for each
// row, of the wanted rows if `wanted`; such launches are left out where nobody
// wants rows. y = −n: ⌈rows / n⌉; x = −n: of each sequence ⌈length / n⌉. A launch with "lengths":
// [least, most] is left out of steps of other lengths; most = 0: none is too
// long. Arguments: `scratch` and `logits` (pointers, `offset` bytes on),
// `weight` number `value`, `tokens`, `start`, `count`, `wanted`, `caches`,
// `capacity` (the pointers of skim_step_args), `rows`, `wanted_rows`, `length`
// and `number` (i32).
// A launch with "library": "cublas" instead of kernel, grid and threads is y (+)= x·Wᵀ of all rows (or the wanted
// ones), { "shape": [n, k], "type": "f16" or "bf16", "add": bool }: W [n, k] and x [rows, k] of that type, y f32; its
// arguments are W, x, y and the elements between rows of y (`number`).
// Scratch memory is zero before the first step: launches count blocks in its first
// bytes and leave these as they were, so steps and recorded graphs follow each other.
// `sampling` follows a step of which each sequence wants its last row, in order.
// It chooses a token for each and makes of the arguments those of the next step:
// tokens[b] = the chosen one, start[b] += count[b], count[b] = 1, wanted[b] = b.
// Its arguments are also `sampling` (SampleState of each sequence) and `chosen`
// (i32 of each); it may write to the logits.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_RUNTIME_DEVICESTEP_H
#define SKIM_RUNTIME_DEVICESTEP_H

#include "skim-rt/abi.h"
#include "skim/Support/Error.h"

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace skim {

/// The list, checked.
struct LaunchList {
  enum class Source {
    Scratch,
    Logits,
    Weight,
    Tokens,
    Start,
    Count,
    Wanted,
    Caches,
    Capacity,
    Sampling,
    Chosen,
    Rows,
    WantedRows,
    Length,
    Number
  };
  static constexpr size_t kSources = static_cast<size_t>(Source::Number) + 1;
  struct Argument {
    Source source;
    int64_t value, offset;
  };
  /// Of a library: y (+)= x·Wᵀ.
  struct Product {
    int64_t n, k;
    bool bf16, add;
  };
  struct Launch {
    std::string kernel;
    std::optional<Product> product; ///< instead of a kernel; arguments: W, x, y, stride of y
    std::array<int64_t, 3> grid;
    uint32_t threads, shared;
    bool wanted;
    int64_t leastLength = 1, mostLength = 0; ///< 0: any
    std::vector<Argument> arguments;
  };
  struct Variant {
    int64_t rows;
    std::vector<Launch> launches;
  };
  int64_t scratch = 0;
  std::vector<Variant> variants; ///< by rows
  std::vector<Launch> sampling;  ///< empty: tokens are chosen on the host

  /// Fails where the text is damaged, names one of not `weights` weights or a
  /// kernel for which `hasKernel` is false.
  static Expected<LaunchList> parse(std::string_view text, size_t weights,
                                    const std::function<bool(const std::string &)> &hasKernel);
  /// The variant for so many rows; fails if there are too many.
  Expected<const Variant *> choose(int64_t rows) const;
  /// Whether a launch is a library's.
  bool hasProducts() const;
};

/// What an argument is in a step: pointers and numbers by their sources.
struct LaunchValues {
  std::array<uint64_t, LaunchList::kSources> pointers = {};
  std::span<const uint64_t> weights;
  int64_t rows = 0, wantedRows = 0, length = 0;

  uint64_t &at(LaunchList::Source source) { return pointers[static_cast<size_t>(source)]; }
  static bool isPointer(LaunchList::Source source) { return source < LaunchList::Source::Rows; }
  /// An address, or a number whose low 32 bits count.
  uint64_t of(const LaunchList::Argument &argument) const;
  /// Rows of a product; 0: it is left out.
  int64_t productRows(const LaunchList::Launch &launch) const;
  /// Blocks; x = 0: the launch is left out.
  std::array<uint32_t, 3> grid(const LaunchList::Launch &launch) const;
};

/// A weight as the package maps it, aligned to 64.
struct DeviceWeight {
  std::string name;
  const void *data;
  uint64_t bytes;
};

/// How a sequence's next token is chosen, as kernels read it: skim_rt_sampling
/// and skim_rt_random. `counter` grows by one where a number was drawn.
struct SampleState {
  float temperature;
  int32_t topK;
  float topP;
  uint32_t unused;
  uint64_t seed, counter;
  bool operator==(const SampleState &) const = default;
};
static_assert(sizeof(SampleState) == 32);

/// Runs steps on a device.
class DeviceStep {
public:
  virtual ~DeviceStep() = default;
  /// A step, as skim_step; args.weights and args.scratch are not looked at.
  virtual Error run(const skim_step_args &args) = 0;
  /// True if sample() works.
  virtual bool samples() const = 0;
  /// A step that wants the last row of each sequence, and then a token of each;
  /// logits stay on the device, args.logits is not looked at. `states` and
  /// `tokens` have a member for each sequence.
  virtual Error sample(const skim_step_args &args, std::span<SampleState> states, int32_t *tokens) = 0;

  /// Memory for cache blocks, where args.caches point to: the host's if null is
  /// given for an allocation without an error.
  virtual Expected<void *> allocate(uint64_t bytes, const std::string &what) = 0;
  virtual void release(void *memory) = 0;
  /// A piece of one block to another.
  struct Copy {
    void *to;
    const void *from;
    uint64_t bytes;
  };
  virtual Error copy(std::span<const Copy> copies) = 0;
};

} // namespace skim

#endif // SKIM_RUNTIME_DEVICESTEP_H
