//===- WeightTable.cpp - the weights that a step's kernels read -------------===//

#include "StepGenerator.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

int64_t WeightTable::add(StepWeight weight) {
  // Equal constants (a tied embedding that stands twice in the IR) are one, if they lie alike.
  Operation *source = weight.source.getDefiningOp();
  Builder builder(source->getContext());
  NamedAttrList identity;
  for (NamedAttribute attribute : source->getAttrDictionary())
    if (attribute.getName() != "name" && attribute.getName() != "sha256")
      identity.append(attribute);
  identity.set("skim.type", TypeAttr::get(weight.source.getType()));
  const TiledComponent &tiles = weight.tiles;
  identity.set("skim.tiles", builder.getDenseI64ArrayAttr({static_cast<int64_t>(tiles.kind), tiles.rows, tiles.columns,
                                                           tiles.bits, static_cast<int64_t>(tiles.order)}));
  auto key = std::make_pair(Attribute(identity.getDictionary(source->getContext())), Type(weight.type));
  auto [entry, isNew] = indices.try_emplace(key, static_cast<int64_t>(weights.size()));
  if (!isNew)
    return entry->second;
  std::string name = weight.name.empty() ? "weight" : weight.name;
  for (unsigned suffix = 1; !names.insert(name).second; ++suffix)
    name = (weight.name.empty() ? "weight" : weight.name) + "." + std::to_string(suffix);
  weight.name = name;
  weights.push_back(std::move(weight));
  return entry->second;
}

Expected<SmallVector<int64_t>> WeightTable::weight(Operation *user, Value value, StringRef layer,
                                                   WeightEncoding &term) {
  value = behindConversions(value);
  auto type = cast<RankedTensorType>(value.getType());
  auto assemble = value.getDefiningOp<AssembleOp>();
  if (!assemble && (!isConstantTensor(value) || !isa<FloatType>(type.getElementType())))
    return failAt(user, "unsupported weight", "a constant of floats or an encoded weight", spell(type));
  term = assemble ? getEncoding(type)
                  : cast<WeightEncoding>(Attribute(DenseAttr::get(type.getContext(), type.getElementType())));
  SmallVector<TiledComponent> tiles = tiledComponents(term, type.getShape());
  SmallVector<int64_t> numbers;
  auto put = [&](Value source, RankedTensorType stored, std::string name, unsigned component) {
    StepWeight entry;
    entry.name = std::move(name);
    entry.type = stored;
    entry.source = source;
    entry.encoded = assemble ? value : Value();
    entry.component = component;
    entry.layer = layer.str();
    entry.tiles = tiles[component];
    numbers.push_back(add(std::move(entry)));
  };
  if (!assemble) {
    std::string name = externalName(value);
    if (name.empty() && !layer.empty())
      name = layer.str() + ".weight";
    put(value, RankedTensorType::get(type.getShape(), type.getElementType()), name, 0);
    return numbers;
  }
  SmallVector<Component> components = getComponents(term, type.getShape());
  for (auto [index, component] : llvm::enumerate(assemble.getComponents())) {
    if (!isConstantTensor(component))
      return failAt(user, "unsupported weight", "constant components", spell(component.getType()));
    std::string name = externalName(component);
    if (name.empty() && !layer.empty())
      name = layer.str() + "." + components[index].name;
    put(component, components[index].type, name, index);
  }
  return numbers;
}

Expected<int64_t> WeightTable::vector(Operation *user, Value value, StringRef layer) {
  value = behindConversions(value);
  auto type = cast<RankedTensorType>(value.getType());
  if (!isConstantTensor(value) || !isa<FloatType>(type.getElementType()) || type.getEncoding())
    return failAt(user, "unsupported parameter", "a constant of floats", spell(type));
  StepWeight entry;
  entry.name = externalName(value);
  if (entry.name.empty() && !layer.empty())
    entry.name = layer.str() + ".bias";
  entry.type = RankedTensorType::get(type.getShape(), Float32Type::get(type.getContext()));
  entry.source = value;
  entry.layer = layer.str();
  return add(std::move(entry));
}
