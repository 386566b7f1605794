//===- WeightsFile.cpp - weights in the layouts of targets ------------------===//

#include "WeightsFile.h"

#include "skim/Skim/SkimOps.h"
#include "skim/Support/Safetensors.h"

#include <numeric>

using namespace skim;

StoredLayouts skim::layoutsOf(const ProgramInfo &program) {
  StoredLayouts layouts;
  for (const ProgramWeight &weight : program.weights)
    if (weight.codes.block)
      layouts[weight.name] = weight.codes;
  return layouts;
}

Json skim::spellLayouts(const StoredLayouts &layouts) {
  Json json = Json::object();
  for (const auto &[name, codes] : layouts)
    json[name] = {{"word", codes.word}, {"lanes", codes.lanes}, {"bits", codes.bits}, {"columns", codes.columns}};
  return json;
}

Expected<StoredLayouts> skim::readLayouts(const JsonCursor &target) {
  StoredLayouts layouts;
  std::optional<JsonCursor> found = target.find("layouts");
  if (!found)
    return layouts;
  auto members = found->members();
  if (!members)
    return members.takeError();
  for (const auto &[name, entry] : *members) {
    TurnedCodes codes;
    Expected<int64_t> word = entry.integer("word", 16, 32), lanes = entry.integer("lanes", 8, 32);
    Expected<int64_t> bits = entry.integer("bits", 1, 8), columns = entry.integer("columns", 1, INT32_MAX);
    for (Error error : {word.takeError(), lanes.takeError(), bits.takeError(), columns.takeError()})
      if (error)
        return error;
    codes.word = *word;
    codes.lanes = *lanes;
    codes.bits = *bits;
    codes.columns = *columns;
    codes.block = codes.lanes * codes.word / std::gcd(codes.word, codes.bits);
    if (codes.word % 16 || (codes.lanes & (codes.lanes - 1)) || codes.columns < codes.block)
      return entry.mismatch("words of 16 or 32 bits on 8, 16 or 32 lanes, and columns for a block of them");
    layouts[name] = codes;
  }
  return layouts;
}

/// The codes of `tensor` in `layouts`, with its number of rows.
static Expected<TurnedCodes> codesOf(const StoredLayouts &layouts, const TensorInfo &tensor) {
  auto found = layouts.find(tensor.name);
  if (found == layouts.end())
    return TurnedCodes();
  TurnedCodes codes = found->second;
  int64_t rowBytes = (codes.columns * codes.bits + 7) / 8;
  if (tensor.shape.size() != 2 || dtypeSize(tensor.type) != 1 || tensor.shape[1] != rowBytes)
    return fail("layout and weights disagree", tensor.name, "rows of " + std::to_string(rowBytes) + " bytes",
                "another shape");
  codes.rows = tensor.shape[0];
  return codes;
}

Error skim::rewriteWeights(const std::string &from, const StoredLayouts &have, const std::string &to,
                           const StoredLayouts &want, unsigned threads) {
  Expected<SafetensorsFile> file = SafetensorsFile::open(from, MappedFile::Access::Sequential);
  if (!file)
    return file.takeError();
  std::vector<TensorSpec> specs;
  for (const TensorInfo &tensor : file->tensors())
    specs.push_back({tensor.name, tensor.type, tensor.shape});
  Expected<SafetensorsWriter> writer = SafetensorsWriter::create(to, std::move(specs), file->metadata());
  if (!writer)
    return writer.takeError();
  constexpr int64_t pieceBytes = int64_t(4) << 20; // at once in memory
  std::vector<uint8_t> canonical, turned;
  for (size_t index = 0; index < file->tensors().size(); ++index) {
    const TensorInfo &tensor = file->tensors()[index];
    // The IR names bytes of the file.
    if (writer->layout()[index].offset != tensor.offset)
      return fail("damaged weights", from, "tensor " + tensor.name + " at a multiple of 64 bytes",
                  "offset " + std::to_string(tensor.offset));
    std::span<const uint8_t> bytes = file->bytes(tensor);
    Expected<TurnedCodes> old = codesOf(have, tensor), next = codesOf(want, tensor);
    for (Error error : {old.takeError(), next.takeError()})
      if (error)
        return error;
    if (*old == *next) {
      if (Error error = writer->write(index, bytes))
        return error;
      file->release(tensor);
      continue;
    }
    int64_t rowBytes = tensor.shape[1], step = std::max<int64_t>(1, pieceBytes / std::max<int64_t>(1, rowBytes));
    for (int64_t row = 0; row < tensor.shape[0]; row += step) {
      int64_t rows = std::min(step, tensor.shape[0] - row);
      std::span<const uint8_t> piece = bytes.subspan(row * rowBytes, rows * rowBytes);
      old->rows = next->rows = rows;
      if (old->block) {
        canonical.resize(piece.size());
        unpackCodes(*old, piece, canonical, threads);
        piece = canonical;
      }
      if (next->block) {
        turned.resize(piece.size());
        packCodes(*next, piece, turned, threads);
        piece = turned;
      }
      if (Error error = writer->write(index, row * rowBytes, piece))
        return error;
    }
    file->release(tensor);
  }
  return writer->finish();
}

Error skim::writeDeviceWeights(const std::string &from, const StoredLayouts &have, const std::string &to,
                               const device::StepProgram &program, unsigned threads) {
  Expected<SafetensorsFile> file = SafetensorsFile::open(from, MappedFile::Access::Sequential);
  if (!file)
    return file.takeError();
  std::vector<const TensorInfo *> sources;
  std::vector<TensorSpec> specs;
  for (const device::StepWeight &weight : program.weights) {
    // Whatever else the file has the name for: the IR says where the bytes are.
    auto external = weight.source.getDefiningOp<ExternalOp>();
    const TensorInfo *found = nullptr;
    for (const TensorInfo &tensor : file->tensors())
      if (external && tensor.offset == static_cast<uint64_t>(external.getOffset()) &&
          tensor.bytes == static_cast<uint64_t>(weight.canonicalBytes()))
        found = &tensor;
    if (!found)
      return fail("code and weights disagree", weight.name, "a tensor of the package's weights", "none");
    sources.push_back(found);
    specs.push_back({weight.name, found->type, found->shape});
    // Rows come first; those that fill up the last tile are rows, too.
    if (weight.tiles.kind != TiledComponent::Canonical)
      specs.back().shape[0] = static_cast<int64_t>(llvm::alignTo(weight.tiles.rows, kTileRows));
  }
  Expected<SafetensorsWriter> writer = SafetensorsWriter::create(to, std::move(specs), file->metadata());
  if (!writer)
    return writer.takeError();
  std::vector<uint8_t> canonical, tiled;
  for (size_t index = 0; index < sources.size(); ++index) {
    const TensorInfo &tensor = *sources[index];
    std::span<const uint8_t> bytes = file->bytes(tensor);
    Expected<TurnedCodes> old = codesOf(have, tensor);
    if (!old)
      return old.takeError();
    if (old->block) {
      canonical.resize(bytes.size());
      unpackCodes(*old, bytes, canonical, threads);
      bytes = canonical;
    }
    const TiledComponent &tiles = program.weights[index].tiles;
    if (tiles.kind != TiledComponent::Canonical) {
      tiled.resize(static_cast<size_t>(program.weights[index].bytes()));
      packTiles(tiles, bytes, tiled, threads);
      bytes = tiled;
    }
    if (Error error = writer->write(index, bytes))
      return error;
    file->release(tensor);
  }
  return writer->finish();
}
