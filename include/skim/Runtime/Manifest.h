//===- Manifest.h - what a package says about itself -------------*- C++ -*-===//
//
// The part of a package's `manifest.json` that running it needs, checked
// completely: a manifest may be damaged or written by somebody else, and its
// numbers become allocation sizes and pointers.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_RUNTIME_MANIFEST_H
#define SKIM_RUNTIME_MANIFEST_H

#include "skim/Support/Error.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace skim {

/// One cache tensor of a sequence: [heads, capacity, dim].
struct CacheSpec {
  int64_t heads;
  int64_t dim;
  int64_t bytesPerElement;
  int64_t bytesPerToken() const { return heads * dim * bytesPerElement; }
};

/// The code for one target and what it needs; the object `targets.NAME`. Its
/// member `sha256` is that of the object's text without it (dumpJson: keys
/// sorted, no spaces), since a damaged number here would crash the code.
struct Program {
  std::string target;
  std::string code; // relative to the package
  std::string codeSha256;
  std::string weightsFile; // relative to the package
  std::vector<std::string> weights;
  std::vector<int64_t> weightBytes; // of each weight
  std::vector<CacheSpec> caches;
  int64_t vocabulary = 0;
  int64_t context = 0;
  int64_t maxRows = 0;
  // Bytes of skim_step_args.scratch.
  int64_t scratchFixed = 0;
  int64_t scratchPerRow = 0;
  int64_t scratchPerThread = 0;
  int64_t sampleScratch = 0;
  std::vector<std::string> cpuFeatures; // as LLVM names them
  /// A device's launches (DeviceStep.h), as JSON; empty: the code has skim_step.
  std::string launches;
  /// Kernels of an NVIDIA device as PTX, and as machine code where there is some;
  /// relative to the package. Empty: none.
  std::string kernels, kernelsSha256;
  std::string cubin, cubinSha256;

  /// Bytes that a token takes in a session's cache block.
  int64_t cacheBytesPerToken() const;
  /// Bytes of scratch for a step; nothing if they do not fit in 62 bits.
  std::optional<uint64_t> scratchBytes(int64_t rows, int64_t threads) const;
};

struct Manifest {
  std::string folder;
  std::string name;
  std::string modelHash;
  std::vector<int32_t> endTokens;
  std::optional<int32_t> beginToken;
  std::string tokenizerKind; // "bpe" or "sentencepiece"; empty: no tokenizer
  std::string tokenizerFile; // relative to the package
  Program program;

  /// `FOLDER/relative`.
  std::string path(std::string_view relative) const { return folder + "/" + std::string(relative); }
};

/// Reads and checks `FOLDER/manifest.json` and chooses a target: the one named
/// so; for "" or "cpu" the CPU target that uses most of what this CPU has. A GPU
/// (`nvidia:…`, `nvidia-sim:…`) must be named.
/// Checks that the files that the target needs are there with the sizes of the
/// member `files`. Reads no other file.
/// Errors: no package; any damaged, missing or impossible field, by its JSON
/// pointer; a target that the package lacks or that this CPU cannot run.
Expected<Manifest> readManifest(const std::string &folder, std::string_view target = {});

/// The names of the package's targets; nothing but them is checked.
Expected<std::vector<std::string>> packageTargets(const std::string &folder);

/// True if this CPU (and its operating system) has the feature that LLVM calls
/// `name`; false for names unknown here.
bool hostHasCpuFeature(std::string_view name);

} // namespace skim

#endif // SKIM_RUNTIME_MANIFEST_H
