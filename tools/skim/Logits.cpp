//===- Logits.cpp - skim logits: the model's raw answers --------------------===//

#include "Command.h"
#include "Model.h"
#include "skim/Support/Safetensors.h"

#include <algorithm>

using namespace skim;
using namespace skim::tool;

namespace {
struct Options {
  std::string package, tokenIds, output;
  Model::Options model;
};
} // namespace

/// Rows of logits held at once; a vocabulary of 150,000 makes 38 MB of them.
static constexpr int64_t rowsAtOnce = 64;

static Error run(const Options &options) {
  Expected<std::vector<std::vector<int32_t>>> lines = readTokenIds(options.tokenIds);
  if (!lines)
    return lines.takeError();
  Expected<Model> model = Model::open(options.package, options.model);
  if (!model)
    return model.takeError();
  int64_t vocabulary = model->info().vocabulary;

  std::vector<TensorSpec> specs;
  for (size_t i = 0; i < lines->size(); ++i)
    specs.push_back({std::to_string(i), DType::F32, {static_cast<int64_t>((*lines)[i].size()), vocabulary}});
  Expected<SafetensorsWriter> writer = SafetensorsWriter::create(options.output, specs);
  if (!writer)
    return writer.takeError();

  std::vector<float> logits(rowsAtOnce * vocabulary);
  for (size_t i = 0; i < lines->size(); ++i) {
    const std::vector<int32_t> &ids = (*lines)[i];
    Expected<Session> session = model->session(static_cast<int64_t>(ids.size()));
    if (!session)
      return session.takeError();
    for (int64_t begin = 0, count = static_cast<int64_t>(ids.size()); begin < count; begin += rowsAtOnce) {
      int64_t rows = std::min(rowsAtOnce, count - begin);
      if (Error error = session->prefill(ids.data() + begin, rows, SKIM_RT_LOGITS_ALL, logits.data()))
        return error;
      uint64_t rowBytes = static_cast<uint64_t>(vocabulary) * sizeof(float);
      std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t *>(logits.data()), rows * rowBytes);
      if (Error error = writer->write(i, begin * rowBytes, bytes))
        return error;
    }
  }
  return writer->finish();
}

void skim::tool::addLogits(CLI::App &app, Action &action) {
  auto options = std::make_shared<Options>();
  CLI::App *command = addCommand(app, action, "logits", "writes the logits of token ids", options, run);
  command->add_option("package", options->package, "OUT.skim")->required();
  command->add_option("--token-ids", options->tokenIds, "one sequence of ids a line")->required();
  command->add_option("-o,--output", options->output, "safetensors file: tensors 0, 1, ... [tokens, vocabulary]")
      ->required();
  command->add_option("--target", options->model.target, "target of the package");
  command->add_option("--device", options->model.device, "which NVIDIA device")->check(CLI::Range(0, 1 << 16));
  command->add_option("--threads", options->model.threads, "threads (default: all)");
}
