//===- Manifest.cpp - what a package says about itself ----------------------===//

#include "Manifest.h"

#include "WeightsFile.h"
#include "skim-rt/abi.h"
#include "skim/Skim/SkimOps.h"
#include "skim/Support/MappedFile.h"
#include "skim/Support/PackageManifest.h"
#include "skim/Support/Safetensors.h"
#include "skim/Support/Sha256.h"
#include "skim/Tokenizer/Tokenizer.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

#include <filesystem>

using namespace mlir;
using namespace skim;

std::string skim::targetFolder(const std::string &target) {
  std::string folder = target;
  std::replace(folder.begin(), folder.end(), ':', '-');
  return folder;
}

/// `codes`, `tables`, …: the groups of the manifest's byte counts.
static const char *byteGroup(const Component &component) {
  if (component.name.find("low_rank.") != std::string::npos)
    return "factors";
  switch (component.kind) {
  case ComponentKind::Codes:
  case ComponentKind::Exponents:
    return "codes";
  case ComponentKind::Table:
    return "tables";
  case ComponentKind::Scales:
  case ComponentKind::Zeros:
  case ComponentKind::Alpha:
    return "scales";
  case ComponentKind::Data:
  case ComponentKind::Permutation:
    return "other";
  }
  return "other";
}

std::string skim::formatName(Type type) {
  if (WeightEncoding encoding = getEncoding(type))
    return encoding.getShortName();
  std::string text;
  llvm::raw_string_ostream(text) << cast<RankedTensorType>(type).getElementType();
  return text;
}

void Manifest::addLayers(ModuleOp module, BuildReport &report) {
  std::map<std::string, uint64_t> bytes = {{"total", 0},   {"codes", 0}, {"tables", 0},    {"scales", 0},
                                           {"factors", 0}, {"other", 0}, {"embeddings", 0}};
  // A table that is also an embedding, and the head, count as embeddings: true
  // bits are those of the linear layers between them.
  llvm::DenseSet<Value> embeddings, counted;
  module.walk([&](EmbedOp embed) { embeddings.insert(embed.getTable()); });
  module.walk([&](LinearOp linear) {
    if (linear.getLayer().value_or("") == "lm_head")
      embeddings.insert(linear.getWeight());
  });

  Json layers = Json::array();
  uint64_t linearBits = 0, linearWeights = 0;
  auto addWeight = [&](Operation *op, Value weight, std::optional<StringRef> layer, std::optional<StringRef> onnxName) {
    auto type = cast<RankedTensorType>(weight.getType());
    WeightEncoding encoding = getEncoding(type);
    uint64_t bits = encoding ? getStoredBits(encoding, type.getShape())
                             : static_cast<uint64_t>(type.getNumElements()) * type.getElementTypeBitWidth();
    bool isEmbedding = embeddings.contains(weight);
    if (counted.insert(weight).second) {
      report.parameters += type.getNumElements();
      bytes["total"] += bits / 8;
      if (isEmbedding) {
        bytes["embeddings"] += bits / 8;
      } else {
        linearBits += bits;
        linearWeights += type.getNumElements();
        if (!encoding)
          bytes["other"] += bits / 8;
        else
          for (const Component &component : getComponents(encoding, type.getShape()))
            bytes[byteGroup(component)] += component.getBits() / 8;
      }
    }
    auto number = [&](StringRef name) {
      auto value = op->getAttrOfType<FloatAttr>(name);
      return value ? Json(value.getValueAsDouble()) : Json(nullptr);
    };
    layers.push_back({{"name", layer.value_or("").str()},
                      {"onnx_name", onnxName.value_or("").str()},
                      {"kind", isa<EmbedOp>(op) ? "embedding" : "linear"},
                      {"format", formatName(type)},
                      {"mode", nullptr},
                      {"shape", {type.getDimSize(0), type.getDimSize(1)}},
                      {"bits", double(bits) / type.getNumElements()},
                      {"bytes", bits / 8},
                      {"error", number(kErrorAttr)},
                      {"output_error", number(kOutputErrorAttr)},
                      {"loss_error", number(kLossErrorAttr)}});
  };
  module.walk([&](Operation *op) {
    if (auto linear = dyn_cast<LinearOp>(op))
      addWeight(op, linear.getWeight(), linear.getLayer(), linear.getOnnxName());
    else if (auto embed = dyn_cast<EmbedOp>(op))
      addWeight(op, embed.getTable(), embed.getLayer(), embed.getOnnxName());
    else if (auto external = dyn_cast<ExternalOp>(op)) {
      // Norms and biases: neither linear nor embedding.
      bool other = llvm::none_of(external->getUsers(), [&](Operation *user) {
        auto linear = dyn_cast<LinearOp>(user);
        return isa<AssembleOp, EmbedOp>(user) || (linear && linear.getWeight() == external.getResult());
      });
      auto type = cast<RankedTensorType>(external.getType());
      if (other) {
        uint64_t size = type.getNumElements() * type.getElementTypeBitWidth() / 8;
        bytes["total"] += size;
        bytes["other"] += size;
        report.parameters += type.getNumElements();
      }
    }
  });
  report.bits = linearWeights ? double(linearBits) / linearWeights : 0;
  report.bytes = bytes["total"];
  report.linearBytes = linearBits / 8;
  report.otherBytes = bytes["total"] - linearBits / 8;
  json["layers"] = std::move(layers);
  json["bits"] = report.bits;
  json["bytes"] = bytes;
  json["parameters"] = report.parameters;
}

/// Size and hash of a file.
static Expected<Json> describeFile(const std::string &path) {
  Expected<std::string> hash = sha256OfFile(path);
  if (!hash)
    return hash.takeError();
  uint64_t size = 0;
  if (std::error_code code = llvm::sys::fs::file_size(path, size))
    return fail("cannot read file", path, "a readable file", code.message());
  return Json{{"bytes", size}, {"sha256", *hash}};
}

void Manifest::setModes(ModuleOp module) {
  std::map<std::string, std::string> modes;
  module.walk(
      [&](LinearOp linear) { modes[linear.getLayer().value_or("").str()] = linear.getMode().value_or("").str(); });
  auto layers = json.find("layers");
  if (layers == json.end() || !layers->is_array())
    return;
  for (Json &layer : *layers)
    if (auto name = layer.find("name"); layer.is_object() && name != layer.end() && name->is_string())
      if (auto mode = modes.find(name->get<std::string>()); mode != modes.end())
        layer["mode"] = mode->second;
}

Error Manifest::addSource(const std::string &model) {
  Expected<Json> facts = describeFile(model);
  if (!facts)
    return facts.takeError();
  std::error_code ignored;
  std::string name = std::filesystem::absolute(model, ignored).parent_path().filename().string();
  json["model"] = {{"file", llvm::sys::path::filename(model).str()}, {"name", name}, {"hash", (*facts)["sha256"]}};
  return Error::success();
}

Error Manifest::addFromPackage(const JsonCursor &manifest, BuildReport &report) {
  for (const char *key : {"model", "tokenizer", "begin_token", "end_tokens", "layers", "bits", "bytes", "parameters"})
    if (auto found = manifest.json().find(key); found != manifest.json().end())
      json[key] = *found;
  Expected<int64_t> parameters = manifest.integer("parameters", 0);
  Expected<double> bits = manifest.number("bits");
  Expected<JsonCursor> bytes = manifest.member("bytes"), layers = manifest.member("layers");
  for (Error error : {parameters.takeError(), bits.takeError(), bytes.takeError(), layers.takeError()})
    if (error)
      return error;
  Expected<int64_t> total = bytes->integer("total", 0);
  auto items = layers->elements();
  for (Error error : {total.takeError(), items.takeError()})
    if (error)
      return error;
  for (const JsonCursor &layer : *items) {
    Expected<std::string> name = layer.string("name"), kind = layer.stringOr("kind", "linear");
    Expected<int64_t> size = layer.integer("bytes", 0, *total);
    for (Error error : {name.takeError(), kind.takeError(), size.takeError()})
      if (error)
        return error;
    if (*kind == "linear" && *name != "lm_head")
      report.linearBytes += *size;
  }
  report.parameters = *parameters;
  report.bits = *bits;
  report.bytes = *total;
  report.otherBytes = *total - std::min<uint64_t>(report.linearBytes, *total);
  return Error::success();
}

/// The end tokens that a generation config or the model's own config names.
static void readEndTokens(const std::string &folder, Json &json) {
  for (const char *name : {"generation_config.json", "config.json", "genai_config.json"}) {
    std::string path = folder + "/" + name;
    if (!llvm::sys::fs::exists(path))
      continue;
    Expected<Json> config = parseJsonFile(path);
    if (!config)
      continue; // a config that we do not need must not stop a build
    const Json *root = &*config;
    if (auto model = root->find("model"); model != root->end() && model->is_object())
      root = &*model;
    auto ids = [&](const char *key) {
      std::vector<int64_t> result;
      auto found = root->find(key);
      if (found == root->end())
        return result;
      if (found->is_number_integer())
        result.push_back(found->get<int64_t>());
      else if (found->is_array())
        for (const Json &id : *found)
          if (id.is_number_integer())
            result.push_back(id.get<int64_t>());
      return result;
    };
    std::vector<int64_t> ends = ids("eos_token_id"), begins = ids("bos_token_id");
    if (json["end_tokens"].empty() && !ends.empty())
      json["end_tokens"] = ends;
    if (json["begin_token"].is_null() && !begins.empty())
      json["begin_token"] = begins.front();
  }
}

Error Manifest::addTokenizer(const BuildOptions &options, const std::string &folder) {
  json["tokenizer"] = nullptr;
  json["begin_token"] = nullptr;
  json["end_tokens"] = Json::array();
  std::string modelFolder = llvm::sys::path::parent_path(options.model).str();
  if (modelFolder.empty())
    modelFolder = ".";
  std::string file = options.tokenizer;
  if (file.empty() || llvm::sys::fs::is_directory(file)) {
    std::string place = file.empty() ? modelFolder : file;
    file.clear();
    for (const char *name : {"tokenizer.json", "tokenizer.model"})
      if (file.empty() && llvm::sys::fs::exists(place + "/" + name))
        file = place + "/" + name;
    if (file.empty() && !options.tokenizer.empty())
      return fail("no tokenizer", place, "tokenizer.json or tokenizer.model", "neither");
  }
  if (!file.empty()) {
    Expected<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::load(file);
    if (!tokenizer)
      return tokenizer.takeError();
    std::string kind((*tokenizer)->kind());
    std::string name = kind == "bpe" ? "tokenizer.json" : "tokenizer.model";
    std::string place = llvm::sys::path::parent_path(file).str();
    if (place.empty())
      place = ".";
    auto copy = [&](const std::string &from, const std::string &to) -> Error {
      Expected<std::string> text = readTextFile(from);
      return text ? writeFileAtomically(folder + "/" + to, *text) : text.takeError();
    };
    if (Error error = copy(file, name))
      return error;
    for (const char *extra : {"tokenizer_config.json", "generation_config.json"})
      if (llvm::sys::fs::exists(place + "/" + extra))
        if (Error error = copy(place + "/" + extra, extra))
          return error;
    json["tokenizer"] = {{"kind", kind}, {"file", name}};
    if ((*tokenizer)->beginToken())
      json["begin_token"] = *(*tokenizer)->beginToken();
    json["end_tokens"] = (*tokenizer)->endTokens();
  }
  readEndTokens(modelFolder, json);
  return Error::success();
}

Error Manifest::addTarget(const ProgramInfo &program, const TargetInfo &target, const std::string &folder,
                          const std::string &code, const std::string &weightsFile) {
  Expected<Json> facts = describeFile(folder + "/" + code);
  if (!facts)
    return facts.takeError();
  // The code reads these tensors without looking: they must be what it expects.
  Expected<SafetensorsFile> file = SafetensorsFile::open(folder + "/" + weightsFile);
  if (!file)
    return file.takeError();
  Json weights = Json::array(), weightBytes = Json::array();
  for (const ProgramWeight &weight : program.weights) {
    Expected<const TensorInfo *> info = file->get(weight.name);
    if (!info)
      return info.takeError();
    uint64_t bytes = weight.type.getNumElements() * weight.type.getElementTypeBitWidth() / 8;
    if ((*info)->bytes != bytes)
      return fail("code and weights disagree", weight.name, std::to_string(bytes) + " bytes",
                  std::to_string((*info)->bytes));
    weights.push_back(weight.name);
    weightBytes.push_back(bytes);
  }
  Json caches = Json::array();
  for (const auto &cache : program.caches)
    caches.push_back({{"heads", cache.heads}, {"dim", cache.dim}, {"bytes_per_element", cache.bytesPerElement}});
  Json entry = {
      {"abi", SKIM_ABI_VERSION},
      {"target", target.name},
      {"code", code},
      {"code_sha256", (*facts)["sha256"]},
      {"weights_file", weightsFile},
      {"weights", std::move(weights)},
      {"weight_bytes", std::move(weightBytes)},
      {"caches", caches},
      {"vocabulary", program.vocabulary},
      {"context", program.context},
      {"max_rows", program.maxRows},
      {"scratch",
       {{"fixed", program.scratchFixed}, {"per_row", program.scratchPerRow}, {"per_thread", program.scratchPerThread}}},
      {"sample_scratch", program.sampleScratch},
      {"cpu_features", target.requiredFeatures}};
  if (StoredLayouts layouts = layoutsOf(program); !layouts.empty())
    entry["layouts"] = spellLayouts(layouts);
  // The runtime refuses an entry that was changed since.
  entry["sha256"] = sha256(dumpJson(entry));
  json["targets"][target.name] = std::move(entry);
  return Error::success();
}

Error Manifest::addDevice(const device::StepProgram &program, const GPUTarget &target, const TargetInfo &host,
                          int64_t sampleScratch, const std::string &folder, const DeviceFiles &files) {
  Expected<Json> facts = describeFile(folder + "/" + files.code), launches = parseJson(program.launches, "launches");
  if (!facts)
    return facts.takeError();
  if (!launches)
    return launches.takeError();
  Json weights = Json::array(), weightBytes = Json::array(), caches = Json::array();
  for (const device::StepWeight &weight : program.weights) {
    weights.push_back(weight.name);
    weightBytes.push_back(weight.bytes());
  }
  for (const ProgramCache &cache : program.caches)
    caches.push_back({{"heads", cache.heads}, {"dim", cache.dim}, {"bytes_per_element", cache.bytesPerElement}});
  Json entry = {{"abi", SKIM_ABI_VERSION},
                {"target", target.name},
                {"code", files.code},
                {"code_sha256", (*facts)["sha256"]},
                {"weights_file", files.weights},
                {"weights", std::move(weights)},
                {"weight_bytes", std::move(weightBytes)},
                {"caches", std::move(caches)},
                {"vocabulary", program.vocabulary},
                {"context", program.context},
                {"max_rows", program.maxRows},
                {"scratch", {{"fixed", 0}, {"per_row", 0}, {"per_thread", 0}}},
                {"sample_scratch", sampleScratch},
                {"cpu_features", host.requiredFeatures},
                {"launches", std::move(*launches)}};
  for (auto [key, file] : {std::pair("kernels", &files.kernels), std::pair("cubin", &files.cubin)}) {
    if (file->empty())
      continue;
    Expected<Json> described = describeFile(folder + "/" + *file);
    if (!described)
      return described.takeError();
    entry[key] = *file;
    entry[std::string(key) + "_sha256"] = (*described)["sha256"];
  }
  entry["sha256"] = sha256(dumpJson(entry));
  json["targets"][target.name] = std::move(entry);
  return Error::success();
}

Error Manifest::write(const BuildOptions &options, const std::string &folder) {
  json["version"] = packageVersion;
  json["skim"] = "0.1.0";
  json["options"] = {{"format", options.allocate.format}, {"bits", options.allocate.bits},
                     {"size", options.allocate.size},     {"method", options.method},
                     {"head", options.allocate.head},     {"embeddings", options.allocate.embeddings},
                     {"keep", options.allocate.keep},     {"targets", options.targets}};
  Json files = Json::object();
  std::error_code code;
  // Sorted by the JSON object, so that the order of the folder does not show.
  for (const auto &entry : std::filesystem::recursive_directory_iterator(folder, code)) {
    if (!entry.is_regular_file())
      continue;
    std::string name = std::filesystem::relative(entry.path(), folder, code).generic_string();
    if (name == "manifest.json" || name.front() == '.')
      continue;
    Expected<Json> facts = describeFile(entry.path().string());
    if (!facts)
      return facts.takeError();
    files[name] = std::move(*facts);
  }
  if (code)
    return fail("cannot list the package", folder, "a readable folder", code.message());
  json["files"] = std::move(files);
  return writeFileAtomically(folder + "/manifest.json", dumpJson(json, 1) + "\n");
}
