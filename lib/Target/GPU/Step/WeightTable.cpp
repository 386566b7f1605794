//===- WeightTable.cpp - the weights that a step's kernels read -------------===//

#include "StepGenerator.h"
#include "skim/Target/Common/ModelValues.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

int64_t WeightTable::add(StepWeight weight) {
  const TiledComponent &tiles = weight.tiles;
  Builder builder(weight.type.getContext());
  bool isNew;
  int64_t number =
      numbers.add(weight,
                  builder.getDenseI64ArrayAttr({static_cast<int64_t>(tiles.kind), tiles.rows, tiles.columns, tiles.bits,
                                                static_cast<int64_t>(tiles.order)}),
                  isNew);
  if (isNew)
    weights.push_back(std::move(weight));
  return number;
}

Expected<SmallVector<int64_t>> WeightTable::weight(Operation *user, Value value, StringRef layer,
                                                   WeightEncoding &term) {
  Expected<SmallVector<StepTensor>> tensors = tensorsOfWeight(user, value, layer, term);
  if (!tensors)
    return tensors.takeError();
  auto type = cast<RankedTensorType>(behindConversions(value).getType());
  SmallVector<TiledComponent> tiles = tiledComponents(term, type.getShape());
  SmallVector<int64_t> result;
  for (StepTensor &tensor : *tensors) {
    TiledComponent tiled = tiles[tensor.component];
    result.push_back(add({std::move(tensor), tiled}));
  }
  return result;
}

Expected<int64_t> WeightTable::vector(Operation *user, Value value, StringRef layer) {
  Expected<StepTensor> tensor = tensorOfVector(user, value, layer);
  if (!tensor)
    return tensor.takeError();
  return add({std::move(*tensor), {}});
}
