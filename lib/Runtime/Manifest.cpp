#include "skim/Runtime/Manifest.h"
#include "skim/Support/PackageManifest.h"
#include "skim/Support/Sha256.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/stat.h>

using namespace skim;

// Bounds that no real model reaches; they keep every later product in range.
static constexpr int64_t maxCount = int64_t(1) << 24;
static constexpr int64_t maxBytes = int64_t(1) << 46;

int64_t Program::cacheBytesPerToken() const {
  int64_t sum = 0;
  for (const CacheSpec &cache : caches)
    sum += cache.bytesPerToken();
  return sum;
}

std::optional<uint64_t> Program::scratchBytes(int64_t rows, int64_t threads) const {
  int64_t forRows, forThreads, sum;
  if (__builtin_mul_overflow(scratchPerRow, rows, &forRows) ||
      __builtin_mul_overflow(scratchPerThread, threads, &forThreads) ||
      __builtin_add_overflow(scratchFixed, forRows, &sum) || __builtin_add_overflow(sum, forThreads, &sum) ||
      sum >= int64_t(1) << 62)
    return std::nullopt;
  return static_cast<uint64_t>(sum);
}

namespace {
/// Reads members one after the other; after the first failure the rest does
/// nothing, so that a struct's fields read as a list.
class Reader {
public:
  explicit Reader(JsonCursor cursor) : cursor(std::move(cursor)) {}

  template <typename T, typename U> Reader &take(Expected<T> value, U &out) {
    if (!value)
      keep(value.takeError());
    else if (!error)
      out = U(std::move(*value));
    return *this;
  }
  Reader &integer(std::string_view key, int64_t &out, int64_t least, int64_t most) {
    return error ? *this : take(cursor.integer(key, least, most), out);
  }
  Reader &string(std::string_view key, std::string &out) { return error ? *this : take(cursor.string(key), out); }
  /// The name of a file inside the package.
  Reader &file(std::string_view key, std::string &out) {
    if (error)
      return *this;
    Expected<JsonCursor> value = cursor.member(key);
    if (!value)
      return keep(value.takeError());
    take(value->string(), out);
    if (!error && !isInside(out))
      keep(value->mismatch("a relative path without '..'"));
    return *this;
  }
  Reader &sha256(std::string_view key, std::string &out) {
    if (error)
      return *this;
    Expected<JsonCursor> value = cursor.member(key);
    if (!value)
      return keep(value.takeError());
    take(value->string(), out);
    auto isHex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
    if (!error && (out.size() != 64 || !std::all_of(out.begin(), out.end(), isHex)))
      keep(value->mismatch("64 lower-case hex digits"));
    return *this;
  }
  Reader &strings(std::string_view key, std::vector<std::string> &out) {
    if (error)
      return *this;
    Expected<JsonCursor> value = cursor.member(key);
    return value ? take(value->strings(), out) : keep(value.takeError());
  }
  Reader &integers(std::string_view key, std::vector<int64_t> &out, int64_t least, int64_t most) {
    if (error)
      return *this;
    Expected<JsonCursor> value = cursor.member(key);
    return value ? take(value->integers(least, most), out) : keep(value.takeError());
  }
  Reader &keep(Error failure) {
    if (!error)
      error = std::move(failure);
    return *this;
  }

  JsonCursor cursor;
  Error error;

private:
  static bool isInside(std::string_view path) {
    if (path.empty() || path.front() == '/' || path.find('\0') != std::string_view::npos)
      return false;
    while (!path.empty()) {
      std::string_view part = path.substr(0, path.find('/'));
      if (part == "..")
        return false;
      path.remove_prefix(std::min(path.size(), part.size() + 1));
    }
    return true;
  }
};
} // namespace

static Expected<Program> readProgram(const std::string &name, const JsonCursor &cursor) {
  Program program;
  Reader reader(cursor);
  int64_t abi = 0;
  reader.integer("abi", abi, INT64_MIN, INT64_MAX);
  if (!reader.error && abi != 1)
    return fail("code for another runtime", cursor.place() + "/abi", "version 1", std::to_string(abi),
                "rebuild the package with skim compile");
  // Everything below becomes sizes and addresses that the code trusts, and plausible is not enough for that: a
  // vocabulary with one digit changed would make it write beyond the logits.
  std::string digest;
  reader.sha256("sha256", digest);
  if (!reader.error && cursor.isObject()) {
    Json rest = cursor.json();
    rest.erase("sha256");
    std::string actual = sha256(dumpJson(rest));
    if (actual != digest)
      return fail("damaged manifest", cursor.place(), "SHA-256 " + digest, actual,
                  "skim compile rebuilds a package from its IR");
  }
  reader.string("target", program.target);
  if (!reader.error && program.target != name)
    return fail("invalid value", cursor.place() + "/target", "'" + name + "'", "'" + program.target + "'");
  reader.file("code", program.code)
      .sha256("code_sha256", program.codeSha256)
      .file("weights_file", program.weightsFile)
      .strings("weights", program.weights)
      .integers("weight_bytes", program.weightBytes, 0, maxBytes)
      .integer("vocabulary", program.vocabulary, 1, INT32_MAX)
      .integer("context", program.context, 1, INT32_MAX)
      .integer("max_rows", program.maxRows, 1, maxCount)
      .integer("sample_scratch", program.sampleScratch, 0, maxBytes)
      .strings("cpu_features", program.cpuFeatures);
  if (reader.error)
    return std::move(reader.error);

  if (program.weightBytes.size() != program.weights.size())
    return fail("invalid value", cursor.place() + "/weight_bytes",
                "one number for each of " + std::to_string(program.weights.size()) + " weights",
                std::to_string(program.weightBytes.size()));

  // Read when the code is loaded.
  if (std::optional<JsonCursor> launches = cursor.find("launches"))
    program.launches = dumpJson(launches->json());

  if (cursor.find("kernels")) {
    reader.file("kernels", program.kernels).sha256("kernels_sha256", program.kernelsSha256);
    if (cursor.find("cubin"))
      reader.file("cubin", program.cubin).sha256("cubin_sha256", program.cubinSha256);
    if (reader.error)
      return std::move(reader.error);
  }

  Expected<JsonCursor> scratchCursor = cursor.member("scratch");
  if (!scratchCursor)
    return scratchCursor.takeError();
  Reader scratch(*scratchCursor);
  scratch.integer("fixed", program.scratchFixed, 0, maxBytes)
      .integer("per_row", program.scratchPerRow, 0, maxBytes)
      .integer("per_thread", program.scratchPerThread, 0, maxBytes);
  if (scratch.error)
    return std::move(scratch.error);

  Expected<JsonCursor> cachesCursor = cursor.member("caches");
  if (!cachesCursor)
    return cachesCursor.takeError();
  Expected<std::vector<JsonCursor>> caches = cachesCursor->elements();
  if (!caches)
    return caches.takeError();
  if (static_cast<int64_t>(caches->size()) > maxCount)
    return cachesCursor->mismatch("at most " + std::to_string(maxCount) + " caches");
  for (const JsonCursor &entry : *caches) {
    CacheSpec spec{};
    Reader fields(entry);
    fields.integer("heads", spec.heads, 1, 1 << 16)
        .integer("dim", spec.dim, 1, 1 << 16)
        .integer("bytes_per_element", spec.bytesPerElement, 1, 8);
    if (fields.error)
      return std::move(fields.error);
    program.caches.push_back(spec);
  }
  return program;
}

/// Checks that `relative` exists with the size that `files` gives for it.
static Error checkSize(const Manifest &manifest, const JsonCursor &root, const std::string &relative, bool required) {
  std::string path = manifest.path(relative);
  struct stat info;
  if (::stat(path.c_str(), &info) != 0)
    return fail("missing file of a package", path, "a readable file", std::strerror(errno));
  std::optional<JsonCursor> files = root.find("files");
  std::optional<JsonCursor> entry = files ? files->find(relative) : std::nullopt;
  if (!entry) {
    if (!required)
      return Error::success();
    return fail("missing value", root.place() + " /files", "a member '" + relative + "'", "none");
  }
  Expected<int64_t> bytes = entry->integer("bytes", 0);
  if (!bytes)
    return bytes.takeError();
  if (!S_ISREG(info.st_mode) || info.st_size != *bytes)
    return fail("wrong size of a package's file", path, std::to_string(*bytes) + " bytes",
                S_ISREG(info.st_mode) ? std::to_string(info.st_size) : "no regular file",
                "the package may be incomplete");
  return Error::success();
}

/// The first feature of the program that this CPU lacks; empty: none.
static std::string missingFeature(const Program &program) {
  for (const std::string &feature : program.cpuFeatures)
    if (!hostHasCpuFeature(feature))
      return feature;
  return {};
}

static bool isTargetOf(std::string_view name, std::string_view family) {
  return name == family || (name.starts_with(family) && name.substr(family.size()).starts_with(":"));
}
static bool isCpu(std::string_view name) { return isTargetOf(name, "cpu") || isTargetOf(name, "cpu-sim"); }
static bool isNvidia(std::string_view name) { return isTargetOf(name, "nvidia"); }
static bool isDevice(std::string_view name) { return isNvidia(name) || isTargetOf(name, "nvidia-sim"); }

/// Chooses among `targets`; see readManifest.
static Expected<Program> chooseProgram(const JsonCursor &targets, std::string_view wanted, const std::string &folder) {
  Expected<std::vector<std::pair<std::string, JsonCursor>>> all = targets.members();
  if (!all)
    return all.takeError();
  std::string names;
  for (auto &[name, cursor] : *all)
    names += (names.empty() ? "" : ", ") + name;
  if (names.empty())
    names = "none";
  auto lacks = [&](const Program &program, const std::string &feature) {
    return fail("this CPU cannot run the package's code", folder, "a CPU with " + feature + " for " + program.target,
                "one without", "run skim compile " + folder + " -o OUT.skim --target cpu");
  };

  if (!wanted.empty() && wanted != "cpu") {
    for (auto &[name, cursor] : *all) {
      if (name != wanted)
        continue;
      if (!isCpu(name) && !isDevice(name))
        return fail("cannot run a target", cursor.place(), "a target cpu, cpu-sim, nvidia or nvidia-sim", name);
      Expected<Program> program = readProgram(name, cursor);
      if (!program)
        return program;
      if (isDevice(name) == program->launches.empty() || isNvidia(name) == program->kernels.empty())
        return fail("damaged manifest", cursor.place(), "launches and kernels for a GPU and for nothing else", name);
      std::string missing = missingFeature(*program);
      if (!missing.empty())
        return lacks(*program, missing);
      return program;
    }
    return fail("no such target in the package", targets.place(), "one of " + names, std::string(wanted),
                "skim compile adds targets");
  }

  // Compiled code before its simulation, then whatever uses more of this CPU.
  std::optional<Program> best;
  Error refused;
  for (std::string_view family : {"cpu", "cpu-sim"}) {
    for (auto &[name, cursor] : *all) {
      if (!isTargetOf(name, family))
        continue;
      Expected<Program> program = readProgram(name, cursor);
      if (!program)
        return program;
      std::string missing = missingFeature(*program);
      if (!missing.empty()) {
        if (!refused)
          refused = lacks(*program, missing);
        continue;
      }
      if (!best || program->cpuFeatures.size() > best->cpuFeatures.size())
        best = std::move(*program);
    }
    if (best)
      return std::move(*best);
  }
  if (refused)
    return refused;
  return fail("no CPU target in the package", targets.place(), "a target cpu:…", names, "skim compile adds targets");
}

Expected<std::vector<std::string>> skim::packageTargets(const std::string &folder) {
  Expected<Json> json = readPackageManifest(folder);
  if (!json)
    return json.takeError();
  Expected<JsonCursor> targets = JsonCursor(*json, manifestPath(folder)).member("targets");
  if (!targets)
    return targets.takeError();
  auto members = targets->members();
  if (!members)
    return members.takeError();
  std::vector<std::string> names;
  for (const auto &[name, entry] : *members)
    names.push_back(name);
  return names;
}

Expected<Manifest> skim::readManifest(const std::string &folder, std::string_view target) {
  std::string path = manifestPath(folder);
  Expected<Json> json = readPackageManifest(folder);
  if (!json)
    return json.takeError();

  Manifest manifest;
  manifest.folder = folder;
  JsonCursor root(*json, path);
  if (std::optional<JsonCursor> model = root.find("model")) {
    if (!model->isObject())
      return model->mismatch("an object");
    Reader reader(*model);
    reader.take(model->stringOr("name", ""), manifest.name).take(model->stringOr("hash", ""), manifest.modelHash);
    if (reader.error)
      return std::move(reader.error);
  }

  Expected<JsonCursor> targets = root.member("targets");
  if (!targets)
    return targets.takeError();
  Expected<Program> program = chooseProgram(*targets, target, folder);
  if (!program)
    return program.takeError();
  manifest.program = std::move(*program);
  int64_t lastToken = manifest.program.vocabulary - 1;

  if (std::optional<JsonCursor> ends = root.find("end_tokens")) {
    Expected<std::vector<int64_t>> ids = ends->integers(0, lastToken);
    if (!ids)
      return ids.takeError();
    manifest.endTokens.assign(ids->begin(), ids->end());
  }
  if (std::optional<JsonCursor> begin = root.find("begin_token")) {
    Expected<int64_t> id = begin->integer(0, lastToken);
    if (!id)
      return id.takeError();
    manifest.beginToken = static_cast<int32_t>(*id);
  }
  if (std::optional<JsonCursor> tokenizer = root.find("tokenizer")) {
    if (!tokenizer->isObject())
      return tokenizer->mismatch("an object or null");
    Reader reader(*tokenizer);
    reader.string("kind", manifest.tokenizerKind).file("file", manifest.tokenizerFile);
    if (reader.error)
      return std::move(reader.error);
    if (manifest.tokenizerKind != "bpe" && manifest.tokenizerKind != "sentencepiece")
      return fail("invalid value", tokenizer->place() + "/kind", "\"bpe\" or \"sentencepiece\"",
                  "\"" + manifest.tokenizerKind + "\"");
  }

  if (Error error = checkSize(manifest, root, manifest.program.weightsFile, /*required=*/true))
    return error;
  if (Error error = checkSize(manifest, root, manifest.program.code, /*required=*/false))
    return error;
  for (const std::string &file : {manifest.program.kernels, manifest.program.cubin})
    if (!file.empty())
      if (Error error = checkSize(manifest, root, file, /*required=*/false))
        return error;
  if (!manifest.tokenizerFile.empty())
    if (Error error = checkSize(manifest, root, manifest.tokenizerFile, /*required=*/false))
      return error;
  return manifest;
}
