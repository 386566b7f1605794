#include "skim/Quantize/Statistics.h"
#include "skim/Support/Json.h"
#include "skim/Support/Sha256.h"

#include <algorithm>
#include <cmath>

using namespace skim;

namespace {
/// Files in an order that does not depend on how they were named.
std::vector<Statistics> sortedByText(std::vector<Statistics> files) {
  std::sort(files.begin(), files.end(),
            [](const Statistics &a, const Statistics &b) { return a.textHash() < b.textHash(); });
  return files;
}
} // namespace

/// Σ over the files of one of a layer's vectors, in f64.
static std::vector<float> sumOf(const std::vector<const LayerStatistics *> &layers,
                                std::span<const float> LayerStatistics::*member) {
  std::vector<double> sums((layers.front()->*member).size());
  for (const LayerStatistics *layer : layers)
    for (size_t i = 0; i < sums.size(); ++i)
      sums[i] += (layer->*member)[i];
  return {sums.begin(), sums.end()};
}

static Error checkSame(const Statistics &first, const Statistics &other) {
  if (Error error = other.checkModel(first.modelHash()))
    return error;
  if (first.textHash() == other.textHash())
    return fail("the same text twice", other.path(), "statistics of different text", "that of " + first.path());
  if (first.layers().size() != other.layers().size())
    return fail("statistics of other layers", other.path(), std::to_string(first.layers().size()) + " layers",
                std::to_string(other.layers().size()));
  for (const auto &[name, a] : first.layers()) {
    const LayerStatistics *b = other.find(name);
    if (!b || a.input != b->input || a.rows != b->rows || a.columns != b->columns || a.groups != b->groups ||
        a.guidedMoment.size() != b->guidedMoment.size() || a.squaredGradient.size() != b->squaredGradient.size() ||
        a.outputSquaredGradient.size() != b->outputSquaredGradient.size() ||
        a.outputMoment.size() != b->outputMoment.size())
      return fail("statistics of other options", other.path() + " (" + name + ")", "those of " + first.path(),
                  b ? "another shape or other gradients" : "no such layer");
  }
  return Error::success();
}

static std::vector<StatisticsLayer> layersOf(const Statistics &file, StatisticsFacts &facts) {
  std::vector<StatisticsLayer> layers;
  for (const auto &[name, layer] : file.layers()) {
    layers.push_back({name, layer.input, layer.rows, layer.columns, !layer.outputSquaredGradient.empty(),
                      !layer.squaredGradient.empty(), !layer.outputMoment.empty()});
    facts.groups = std::max(facts.groups, layer.groups);
  }
  return layers;
}

static Error mergeLayer(StatisticsWriter &writer, size_t index, const std::vector<const LayerStatistics *> &parts) {
  const StatisticsLayer &layer = writer.layers()[index];
  const LayerStatistics &first = *parts.front();
  if (layer.input == layer.name) {
    std::vector<float> most(layer.columns);
    for (const LayerStatistics *part : parts)
      for (int64_t j = 0; j < layer.columns; ++j)
        most[j] = std::max(most[j], part->absMax[j]);
    if (Error error = writer.writeInput(index, sumOf(parts, &LayerStatistics::secondMoment),
                                        sumOf(parts, &LayerStatistics::firstMoment), most))
      return error;
  }
  if (first.outputSquaredGradient.empty())
    return Error::success();
  if (Error error = writer.writeGuided(index, sumOf(parts, &LayerStatistics::guidedMoment)))
    return error;
  if (Error error = writer.writeOutputGradients(index, sumOf(parts, &LayerStatistics::outputSquaredGradient)))
    return error;
  if (layer.outputMoment)
    if (Error error = writer.writeOutputMoment(index, sumOf(parts, &LayerStatistics::outputMoment)))
      return error;
  if (first.squaredGradient.empty())
    return Error::success();
  std::vector<float> row(layer.columns), sum(layer.columns);
  std::vector<double> total(layer.columns);
  for (int64_t i = 0; i < layer.rows; ++i) {
    std::fill(total.begin(), total.end(), 0.0);
    for (const LayerStatistics *part : parts) {
      part->squaredGradientRow(i, row.data());
      for (int64_t j = 0; j < layer.columns; ++j)
        total[j] += row[j];
    }
    std::copy(total.begin(), total.end(), sum.begin());
    if (Error error = writer.writeSquaredGradients(index, i, sum))
      return error;
  }
  return Error::success();
}

Error skim::mergeStatistics(const std::vector<std::string> &inputs, const std::string &output) {
  std::vector<Statistics> files;
  for (const std::string &path : inputs) {
    Expected<Statistics> file = Statistics::open(path);
    if (!file)
      return file.takeError();
    for (const Statistics &other : files)
      if (Error error = checkSame(other, *file))
        return error;
    files.push_back(std::move(*file));
  }
  if (files.empty())
    return fail("nothing to merge", output, "at least one statistics file", "none");
  files = sortedByText(std::move(files));

  StatisticsFacts facts;
  facts.modelHash = files.front().modelHash();
  facts.gradients = files.front().hasGradients();
  Json parts = Json::array();
  Sha256 texts;
  for (const Statistics &file : files) {
    facts.tokens += file.tokens();
    facts.sequences += file.sequences();
    texts.update(file.textHash());
    Expected<Json> options = parseJson(file.options(), file.path() + " (options)");
    if (!options)
      return options.takeError();
    parts.push_back(std::move(*options));
  }
  facts.textHash = texts.hex();
  facts.options = dumpJson(Json{{"merged", parts}});
  std::vector<StatisticsLayer> layers = layersOf(files.front(), facts);
  Expected<StatisticsWriter> writer = StatisticsWriter::create(output, layers, facts);
  if (!writer)
    return writer.takeError();
  for (size_t index = 0; index < layers.size(); ++index) {
    std::vector<const LayerStatistics *> same;
    for (const Statistics &file : files)
      same.push_back(file.find(layers[index].name));
    if (Error error = mergeLayer(*writer, index, same))
      return error;
  }
  return writer->finish();
}
