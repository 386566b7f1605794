//===- SelfGenerated.cpp - text that a model itself writes -------------------===//

#include "SelfGenerated.h"

#include "ChildProcess.h"
#include "Command.h"
#include "skim/Pipelines/Build.h"
#include "skim/Support/MappedFile.h"
#include "skim/Support/PackageManifest.h"
#include "llvm/Support/FileSystem.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>

using namespace skim;
using namespace skim::tool;

namespace {
/// A folder for one run, removed with all that it holds.
struct TemporaryFolder {
  llvm::SmallString<128> path;
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path.empty())
      std::filesystem::remove_all(path.c_str(), ignored);
  }
  std::string file(const char *name) const { return (path + "/" + name).str(); }
};
} // namespace

Expected<std::vector<std::vector<int32_t>>> skim::tool::generateSequences(const CalibrateModelOptions &options) {
  TemporaryFolder folder;
  if (std::error_code code = llvm::sys::fs::createUniqueDirectory("skim-generate", folder.path))
    return fail("cannot create folder", "the folder of temporary files", "", code.message());
  BuildOptions build;
  build.model = options.model;
  build.tokenizer = options.tokenizer;
  build.output = folder.file("base.skim");
  build.threads = options.calibrate.threads;
  BuildReport report;
  std::vector<Failure> failures;
  if (!buildPackage(build, report, failures))
    return failures.empty() ? Error(fail("the build failed")) : Error(failures.front());

  Expected<Json> manifest = readPackageManifest(build.output);
  if (!manifest)
    return manifest.takeError();
  JsonCursor root(*manifest, manifestPath(build.output));
  Expected<JsonCursor> targets = root.member("targets");
  Expected<JsonCursor> target = targets ? targets->member("cpu") : Expected<JsonCursor>(targets.takeError());
  if (!target)
    return target.takeError();
  Expected<int64_t> context = target->integer("context", 2), vocabulary = target->integer("vocabulary", 1);
  if (!context || !vocabulary)
    return context ? vocabulary.takeError() : context.takeError();
  Expected<int64_t> begin = root.integerOr("begin_token", -1, 0);
  int64_t count = options.sequences > 0 ? options.sequences : 32;
  int64_t length = options.length > 0 ? options.length : std::min<int64_t>(512, *context);

  std::vector<std::vector<int32_t>> sequences;
  for (int64_t i = 0; i < count; ++i) {
    // Without a begin token, texts begin with different ones.
    uint64_t seed = options.seed * 1000003u + static_cast<uint64_t>(i) + 1;
    int64_t first =
        begin && *begin >= 0 ? *begin : static_cast<int64_t>(seed * 0x9E3779B97F4A7C15u >> 33) % *vocabulary;
    if (std::optional<std::string> failed =
            runChild(programFolder() + "/skim",
                     {"run", build.output, "--token-ids", std::to_string(first), "--tokens", std::to_string(length - 1),
                      "--temperature", "1", "--seed", std::to_string(seed), "--threads",
                      std::to_string(options.calibrate.threads)},
                     folder.file("ids"), folder.file("log")))
      return fail("generating text failed", "skim run", "", *failed);
    Expected<std::string> text = readTextFile(folder.file("ids"));
    if (!text)
      return text.takeError();
    Expected<std::vector<int32_t>> ids = parseTokenIds(*text, "skim run");
    if (!ids)
      return ids.takeError();
    ids->insert(ids->begin(), static_cast<int32_t>(first));
    sequences.push_back(std::move(*ids));
    std::fprintf(stderr, "[%3lld/%lld] generated %lld tokens\n", static_cast<long long>(i + 1),
                 static_cast<long long>(count), static_cast<long long>(length));
  }
  return sequences;
}
