#include "skim/Quantize/Plan.h"

#include "skim/Quantize/RowTerms.h"
#include "skim/Support/AtomicOutput.h"
#include "skim/Support/Json.h"

using namespace skim;

static Expected<LayerPlan> readLayer(const JsonCursor &json) {
  LayerPlan layer;
  Expected<std::string> term = json.string("term"), method = json.stringOr("method", ""),
                        widths = json.stringOr("widths", "");
  Expected<double> error = json.numberOr("error", 0);
  Expected<int64_t> bytes = json.integerOr("bytes", 0, 0);
  for (Error failure : {term.takeError(), method.takeError(), widths.takeError(), error.takeError(), bytes.takeError()})
    if (failure)
      return failure;
  layer.term = *term;
  layer.method = *method;
  layer.error = *error;
  layer.bytes = *bytes;
  layer.widths.reserve(widths->size());
  for (char letter : *widths) {
    std::optional<uint8_t> row = termOfLetter(letter);
    if (!row)
      return fail("invalid widths", json.place(), "a letter of a term for each row (1 to 8 are codebooks)",
                  std::string(1, letter));
    layer.widths.push_back(*row);
  }
  return layer;
}

Expected<Plan> Plan::read(const std::string &path) {
  Expected<Json> json = parseJsonFile(path);
  if (!json)
    return json.takeError();
  JsonCursor root(*json, path);
  Expected<std::string> format = root.string("format"), method = root.stringOr("method", ""),
                        hash = root.stringOr("model_hash", "");
  Expected<int64_t> version = root.integer("version"), bytes = root.integerOr("bytes", 0, 0);
  Expected<double> bits = root.numberOr("bits", 0);
  Expected<JsonCursor> layers = root.member("layers");
  for (Error failure : {format.takeError(), version.takeError(), method.takeError(), hash.takeError(),
                        bytes.takeError(), bits.takeError(), layers.takeError()})
    if (failure)
      return failure;
  if (*format != "skim-plan" || *version != 1)
    return fail("not a plan", path, "skim-plan version 1", *format + " version " + std::to_string(*version));
  Plan plan;
  plan.method = *method;
  plan.modelHash = *hash;
  plan.bits = *bits;
  plan.bytes = *bytes;
  if (std::optional<JsonCursor> record = root.find("record")) {
    Expected<int64_t> least = record->integerOr("min_bits", plan.minBits, 1, 8),
                      most = record->integerOr("max_bits", plan.maxBits, 1, 8);
    Expected<std::string> table = record->stringOr("table", plan.table);
    Expected<bool> published = record->booleanOr("as_published", false), scaled = record->booleanOr("scaled", false),
                   allTerms = record->booleanOr("all_terms", false);
    for (Error failure : {least.takeError(), most.takeError(), table.takeError(), published.takeError(),
                          scaled.takeError(), allTerms.takeError()})
      if (failure)
        return failure;
    if (*table != "i8" && *table != "f16" && *table != "bf16")
      return fail("unknown table type", record->place(), "i8, f16 or bf16", *table);
    plan.minBits = *least;
    plan.maxBits = *most;
    plan.table = *table;
    plan.asPublished = *published;
    plan.scaled = *scaled;
    plan.allTerms = *allTerms;
  }
  auto members = layers->members();
  if (!members)
    return members.takeError();
  for (auto &[name, entry] : *members) {
    Expected<LayerPlan> layer = readLayer(entry);
    if (!layer)
      return layer.takeError();
    plan.layers.emplace(name, std::move(*layer));
  }
  return plan;
}

Error Plan::write(const std::string &path) const {
  Json entries = Json::object();
  for (const auto &[name, layer] : layers) {
    Json entry = {{"term", layer.term}, {"error", layer.error}, {"bytes", layer.bytes}};
    if (!layer.method.empty())
      entry["method"] = layer.method;
    if (!layer.widths.empty()) {
      std::string widths;
      for (uint8_t term : layer.widths)
        widths += letterOf(term);
      entry["widths"] = widths;
    }
    entries[name] = std::move(entry);
  }
  Json record = {{"min_bits", minBits},         {"max_bits", maxBits}, {"table", table},
                 {"as_published", asPublished}, {"scaled", scaled},    {"all_terms", allTerms}};
  Json json = {{"format", "skim-plan"}, {"version", 1},   {"method", method}, {"model_hash", modelHash},
               {"bits", bits},          {"bytes", bytes}, {"record", record}, {"layers", entries}};
  return writeFileAtomically(path, dumpJson(json, 1) + "\n");
}
