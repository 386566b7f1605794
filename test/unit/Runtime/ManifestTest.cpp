#include "skim/Runtime/Manifest.h"
#include "TestPackage.h"
#include "skim-rt/skim_rt.h"

#include <gtest/gtest.h>
#include <random>

using namespace skim;
using namespace skim::test;

static std::string errorOf(const TestPackage &package, const char *target = nullptr) {
  skim_rt_options options{};
  options.threads = 1;
  options.target = target;
  skim_rt_model *model = nullptr;
  if (skim_rt_open(package.folder.c_str(), &options, &model)) {
    EXPECT_EQ(model, nullptr);
    std::string message = skim_rt_error();
    // Packages lie in a folder whose name differs from run to run.
    for (size_t at; (at = message.find(package.folder)) != std::string::npos;)
      message.replace(at, package.folder.size(), "P");
    return message;
  }
  skim_rt_close(model);
  return "";
}

TEST(Manifest, ReadsEveryField) {
  TestPackage package;
  Expected<Manifest> manifest = readManifest(package.folder);
  ASSERT_TRUE(bool(manifest)) << manifest.message();
  const Program &program = manifest->program;
  EXPECT_EQ(manifest->name, "test");
  EXPECT_EQ(manifest->endTokens, std::vector<int32_t>{2});
  EXPECT_EQ(manifest->beginToken, 1);
  EXPECT_EQ(manifest->tokenizerFile, "");
  EXPECT_EQ(program.target, "cpu:test");
  EXPECT_EQ(program.cacheBytesPerToken(), 2 * 4 * 4 + 3 * 2);
  EXPECT_EQ(program.scratchBytes(16, 2), 64 + 8 * 16 + 64 * 2);
  EXPECT_EQ(program.weights, (std::vector<std::string>{"model.scale", "offset"}));
}

TEST(Manifest, MissingFields) {
  for (const char *key : {"abi", "target", "code", "code_sha256", "weights_file", "weights", "weight_bytes", "caches",
                          "vocabulary", "context", "max_rows", "scratch", "sample_scratch", "cpu_features", "sha256"}) {
    TestPackage package;
    package.program().erase(key);
    if (std::string_view(key) == "sha256")
      package.write("manifest.json", dumpJson(package.manifest));
    else
      package.save();
    EXPECT_EQ(errorOf(package), "missing value at P/manifest.json /targets/cpu:test: expected a member '" +
                                    std::string(key) + "', got none");
  }
  TestPackage package;
  package.manifest.erase("version");
  package.save();
  EXPECT_EQ(errorOf(package), "missing value at P/manifest.json: expected a member 'version', got none");
}

TEST(Manifest, ImpossibleValues) {
  struct {
    const char *pointer;
    Json value;
    const char *message;
  } cases[] = {
      {"/version", 7,
       "package of another version at P/manifest.json /version: expected 1, got 7 (rebuild the package with this "
       "skim, or use a newer one)"},
      {"/targets/cpu:test/abi", 2,
       "code for another runtime at P/manifest.json /targets/cpu:test/abi: expected version 1, got 2 (rebuild the "
       "package with skim compile)"},
      {"/targets/cpu:test/code", "../model.so",
       "invalid value at P/manifest.json /targets/cpu:test/code: expected a relative path without '..', got "
       "\"../model.so\""},
      {"/targets/cpu:test/weights_file", "/etc/passwd",
       "invalid value at P/manifest.json /targets/cpu:test/weights_file: expected a relative path without '..', got "
       "\"/etc/passwd\""},
      {"/targets/cpu:test/code_sha256", "12",
       "invalid value at P/manifest.json /targets/cpu:test/code_sha256: expected 64 lower-case hex digits, got "
       "\"12\""},
      {"/targets/cpu:test/vocabulary", 0,
       "invalid value at P/manifest.json /targets/cpu:test/vocabulary: expected an integer from 1 to 2147483647, got "
       "0"},
      {"/targets/cpu:test/context", uint64_t(1) << 63,
       "invalid value at P/manifest.json /targets/cpu:test/context: expected an integer from 1 to 2147483647, got "
       "9223372036854775808"},
      {"/targets/cpu:test/caches/1/dim", "3",
       "invalid value at P/manifest.json /targets/cpu:test/caches/1/dim: expected an integer from 1 to 65536, got "
       "\"3\""},
      {"/targets/cpu:test/scratch/per_row", -1,
       "invalid value at P/manifest.json /targets/cpu:test/scratch/per_row: expected an integer from 0 to "
       "70368744177664, got -1"},
      {"/targets/cpu:test/weights/0", 3,
       "invalid value at P/manifest.json /targets/cpu:test/weights/0: expected a string, got 3"},
      {"/targets/cpu:test/weights/0", "absent",
       "missing tensor at P/weights.safetensors: expected a tensor 'absent', got 2 tensors without it"},
      {"/targets/cpu:test/weight_bytes", Json::array({160}),
       "invalid value at P/manifest.json /targets/cpu:test/weight_bytes: expected one number for each of 2 weights, "
       "got 1"},
      {"/targets/cpu:test/weight_bytes/1", 8,
       "code and weights disagree at P/weights.safetensors /offset: expected 8 bytes, got 4 (the weights are of "
       "another package)"},
      {"/targets/cpu:test/target", "cpu",
       "invalid value at P/manifest.json /targets/cpu:test/target: expected 'cpu:test', got 'cpu'"},
      {"/end_tokens", Json::array({40}),
       "invalid value at P/manifest.json /end_tokens/0: expected an integer from 0 to 39, got 40"},
      {"/begin_token", -1, "invalid value at P/manifest.json /begin_token: expected an integer from 0 to 39, got -1"},
      {"/tokenizer",
       {{"kind", "morse"}, {"file", "code.txt"}},
       "invalid value at P/manifest.json /tokenizer/kind: expected \"bpe\" or \"sentencepiece\", got \"morse\""},
      {"/tokenizer",
       {{"kind", "bpe"}, {"file", "tokenizer.json"}},
       "missing file of a package at P/tokenizer.json: expected a readable file, got No such file or directory"},
      {"/files", Json::object(),
       "missing value at P/manifest.json /files: expected a member 'weights.safetensors', got none"},
      {"/files/weights.safetensors/bytes", 3,
       "wrong size of a package's file at P/weights.safetensors: expected 3 bytes, got 480 (the package may be "
       "incomplete)"},
      {"/targets", Json::object(),
       "no CPU target in the package at P/manifest.json /targets: expected a target cpu:…, got none (skim compile "
       "adds targets)"},
      {"/model", 3, "invalid value at P/manifest.json /model: expected an object, got 3"},
  };
  for (auto &entry : cases) {
    TestPackage package;
    package.manifest[Json::json_pointer(entry.pointer)] = entry.value;
    package.save();
    EXPECT_EQ(errorOf(package), entry.message) << entry.pointer;
  }
}

TEST(Manifest, HugeNumbersDoNotOverflow) {
  TestPackage package;
  package.program()["max_rows"] = 1 << 24;
  package.program()["scratch"] = {
      {"fixed", int64_t(1) << 46}, {"per_row", int64_t(1) << 46}, {"per_thread", int64_t(1) << 46}};
  package.save();
  EXPECT_EQ(errorOf(package), "scratch memory is too large at P: expected fewer than 2^62 bytes, got more (the "
                              "manifest may be damaged)");
  package.program()["scratch"]["per_row"] = int64_t(1) << 30;
  package.save();
  EXPECT_EQ(errorOf(package).substr(0, 46), "not enough memory for scratch of 16777216 rows");
}

TEST(Manifest, ChoosesTheBestTarget) {
  TestPackage package;
  Json plain = package.program();
  auto add = [&](const char *name, Json features) {
    plain["target"] = name;
    plain["cpu_features"] = std::move(features);
    package.manifest["targets"][name] = plain;
    package.save();
  };
  auto chosen = [&](std::string_view wanted) {
    Expected<Manifest> manifest = readManifest(package.folder, wanted);
    return manifest ? manifest->program.target : manifest.message();
  };
  add("cpu-sim:wide", Json::array());
  add("nvidia:sm_80", Json::array());
  EXPECT_EQ(chosen(""), "cpu:test");
#if defined(__x86_64__)
  add("cpu:wider", {"sse2", "cmov"});
  EXPECT_EQ(chosen("cpu"), "cpu:wider");
#endif
  add("cpu:alien", {"avx4096"});
  EXPECT_NE(chosen(""), "cpu:alien");
  EXPECT_EQ(chosen("cpu-sim:wide"), "cpu-sim:wide");
  EXPECT_EQ(chosen("cpu:alien"), "this CPU cannot run the package's code at " + package.folder +
                                     ": expected a CPU with avx4096 for cpu:alien, got one without (run skim compile " +
                                     package.folder + " -o OUT.skim --target cpu)");
  EXPECT_EQ(errorOf(package, "nvidia:sm_80"), "damaged manifest at P/manifest.json /targets/nvidia:sm_80: expected "
                                              "launches and kernels for a GPU and for nothing else, got nvidia:sm_80");
  add("tpu", Json::array());
  EXPECT_EQ(errorOf(package, "tpu"), "cannot run a target at P/manifest.json /targets/tpu: expected a target cpu, "
                                     "cpu-sim, nvidia or nvidia-sim, got tpu");
  package.manifest["targets"].erase("tpu");
  package.manifest["targets"].erase("cpu:test");
  package.manifest["targets"].erase("cpu:wider");
  package.save();
  EXPECT_EQ(chosen(""), "cpu-sim:wide");
  package.manifest["targets"].erase("cpu-sim:wide");
  package.save();
  EXPECT_EQ(chosen("").substr(0, 43), "this CPU cannot run the package's code at " + package.folder.substr(0, 1));
  EXPECT_EQ(errorOf(package, "cpu:other"),
            "no such target in the package at P/manifest.json /targets: expected one of cpu:alien, nvidia:sm_80, got "
            "cpu:other (skim compile adds targets)");
}

TEST(Package, DamagedCode) {
  TestPackage package;
  std::string code = package.read("targets/test/model.so");
  code[code.size() / 2] ^= 1;
  package.write("targets/test/model.so", code);
  EXPECT_EQ(errorOf(package).rfind("damaged code of a package at P/targets/test/model.so: expected SHA-256 ", 0), 0u);
  EXPECT_EQ(errorOf(TestPackage("SkimTestModelOldAbi")),
            "code for another runtime at P/targets/test/model.so: expected ABI version 1, got 0 (rebuild the package "
            "with skim compile)");
  EXPECT_EQ(errorOf(TestPackage("SkimTestModelNoStep")),
            "not a package's code at P/targets/test/model.so: expected a symbol skim_step, got none");
}

TEST(Package, DamagedWeights) {
  TestPackage package;
  std::string weights = package.read("weights.safetensors");
  package.write("weights.safetensors", weights.substr(0, weights.size() - 1));
  EXPECT_EQ(errorOf(package), "wrong size of a package's file at P/weights.safetensors: expected " +
                                  std::to_string(weights.size()) + " bytes, got " + std::to_string(weights.size() - 1) +
                                  " (the package may be incomplete)");
}

TEST(Package, NoPackage) {
  TestPackage package;
  package.write("file", "");
  package.folder += "/file";
  EXPECT_EQ(errorOf(package), "cannot open a package at P: expected a package folder, got a file (skim quantize makes "
                              "packages from models)");
  package.folder = package.folder.substr(0, package.folder.size() - 5);
}

TEST(Manifest, ChangedProgram) {
  TestPackage package;
  package.program()["vocabulary"] = vocabulary - 1;
  package.write("manifest.json", dumpJson(package.manifest));
  EXPECT_EQ(errorOf(package).rfind("damaged manifest at P/manifest.json /targets/cpu:test: expected SHA-256 ", 0), 0u);
}

/// What a package's model says about a few tokens; empty where something fails, which must be one line.
static std::vector<float> answerOf(const TestPackage &package) {
  skim_rt_options options{};
  options.threads = 1;
  skim_rt_model *model = nullptr;
  skim_rt_session *session = nullptr;
  skim_rt_info info;
  std::vector<float> logits;
  std::vector<int32_t> tokens = {1, 2, 3};
  if (skim_rt_open(package.folder.c_str(), &options, &model) || skim_rt_model_info(model, &info) ||
      skim_rt_session_create(model, 0, &session)) {
    std::string message = skim_rt_error();
    EXPECT_FALSE(message.empty());
    EXPECT_EQ(message.find('\n'), std::string::npos);
  } else {
    logits.resize(static_cast<size_t>(info.vocabulary));
    EXPECT_EQ(skim_rt_prefill(session, tokens.data(), 3, SKIM_RT_LOGITS_LAST, logits.data()), SKIM_RT_OK);
  }
  skim_rt_session_close(session);
  skim_rt_close(model);
  return logits;
}

/// Changes a few places of a text.
static std::string damage(std::string text, std::mt19937 &random) {
  for (unsigned changes = 1 + random() % 3; changes; --changes) {
    size_t at = random() % text.size();
    switch (random() % 4) {
    case 0:
      text[at] = static_cast<char>(random());
      break;
    case 1:
      text.erase(at, 1 + random() % 20);
      break;
    case 2:
      text.insert(at, text.substr(random() % text.size(), 1 + random() % 20));
      break;
    default:
      text[at] = "0123456789-[]{}\",:e."[random() % 20];
    }
    if (text.empty())
      text = "x";
  }
  return text;
}

// Whatever happens to a manifest's bytes: one line, or a model that works as before.
TEST(Manifest, SurvivesMutation) {
  TestPackage package;
  std::vector<float> answer = answerOf(package);
  EXPECT_EQ(answer, expectedLogits({1, 2, 3}));
  std::string text = package.read("manifest.json");
  std::mt19937 random(1);
  int refused = 0;
  for (int i = 0; i < 1000; ++i) {
    package.write("manifest.json", damage(text, random));
    std::vector<float> now = answerOf(package);
    refused += now.empty();
    if (!now.empty())
      EXPECT_EQ(now, answer);
  }
  EXPECT_GT(refused, 500);
}

// The header of the weights' file likewise; what it says about numbers is beyond telling.
TEST(Package, SurvivesMutationOfTheWeightsHeader) {
  TestPackage package;
  std::string weights = package.read("weights.safetensors");
  size_t header = 8 + static_cast<unsigned char>(weights[0]) + 256 * static_cast<unsigned char>(weights[1]);
  std::mt19937 random(2);
  int refused = 0;
  for (int i = 0; i < 500; ++i) {
    std::string damaged = weights;
    for (unsigned changes = 1 + random() % 3; changes; --changes)
      damaged[random() % header] = "0123456789-[]{}\",:eU"[random() % 20];
    package.write("weights.safetensors", damaged);
    refused += answerOf(package).empty();
  }
  EXPECT_GT(refused, 250);
}
