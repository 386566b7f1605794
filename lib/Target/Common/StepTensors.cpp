//===- StepTensors.cpp - the tensors that a step's code reads ---------------===//

#include "skim/Target/Common/StepTensors.h"

#include "skim/Skim/SkimOps.h"
#include "skim/Target/Common/ModelValues.h"

using namespace mlir;
using namespace skim;

int64_t TensorNumbers::add(StepTensor &tensor, Attribute arrangement, bool &isNew) {
  Operation *source = tensor.source.getDefiningOp();
  NamedAttrList identity;
  for (NamedAttribute attribute : source->getAttrDictionary())
    if (attribute.getName() != "name" && attribute.getName() != "sha256")
      identity.append(attribute);
  identity.set("skim.type", TypeAttr::get(tensor.source.getType()));
  if (arrangement)
    identity.set("skim.arrangement", arrangement);
  auto key = std::make_pair(Attribute(identity.getDictionary(source->getContext())), Type(tensor.type));
  auto [entry, inserted] = numbers.try_emplace(key, static_cast<int64_t>(numbers.size()));
  isNew = inserted;
  if (!isNew)
    return entry->second;
  std::string name = tensor.name.empty() ? "weight" : tensor.name;
  std::string unique = name;
  for (unsigned suffix = 1; !names.insert(unique).second; ++suffix)
    unique = name + "." + std::to_string(suffix);
  tensor.name = unique;
  return entry->second;
}

Expected<SmallVector<StepTensor>> skim::tensorsOfWeight(Operation *user, Value value, StringRef layer,
                                                        WeightEncoding &term) {
  value = behindConversions(value);
  auto type = cast<RankedTensorType>(value.getType());
  // What has no name in its file is named by the layer.
  auto nameOf = [&](Value source, StringRef component) {
    std::string name = externalName(source);
    return name.empty() && !layer.empty() ? (layer + "." + component).str() : name;
  };
  SmallVector<StepTensor> tensors;
  if (auto assemble = value.getDefiningOp<AssembleOp>()) {
    term = getEncoding(type);
    SmallVector<Component> components = getComponents(term, type.getShape());
    for (auto [index, source] : llvm::enumerate(assemble.getComponents())) {
      if (!isConstantTensor(source))
        return failAt(user, "unsupported weight", "constant components", spell(source.getType()));
      tensors.push_back({nameOf(source, components[index].name), components[index].type, source, value,
                         static_cast<unsigned>(index), layer.str()});
    }
    return tensors;
  }
  if (!isConstantTensor(value) || !isa<FloatType>(type.getElementType()))
    return failAt(user, "unsupported weight", "a constant of floats or an encoded weight", spell(type));
  term = cast<WeightEncoding>(Attribute(DenseAttr::get(type.getContext(), type.getElementType())));
  tensors.push_back({nameOf(value, "weight"), RankedTensorType::get(type.getShape(), type.getElementType()), value,
                     Value(), 0, layer.str()});
  return tensors;
}

Expected<StepTensor> skim::tensorOfVector(Operation *user, Value value, StringRef layer) {
  value = behindConversions(value);
  auto type = cast<RankedTensorType>(value.getType());
  if (!isConstantTensor(value) || !isa<FloatType>(type.getElementType()) || type.getEncoding())
    return failAt(user, "unsupported parameter", "a constant of floats", spell(type));
  std::string name = externalName(value);
  if (name.empty() && !layer.empty())
    name = layer.str() + ".bias";
  return StepTensor{
      std::move(name), RankedTensorType::get(type.getShape(), Float32Type::get(type.getContext())), value, Value(), 0,
      layer.str()};
}
