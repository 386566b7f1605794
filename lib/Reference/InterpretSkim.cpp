//===- InterpretSkim.cpp - the reference of the skim operations -------------===//

#include "Frame.h"
#include "skim/Reference/Activation.h"
#include "skim/Skim/SkimOps.h"
#include "skim/Support/MappedFile.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace skim;
using namespace skim::reference;

static Handled runExternal(ExternalOp op, Frame &frame) {
  auto type = cast<RankedTensorType>(op.getType());
  SmallString<128> path(op.getFile());
  if (!llvm::sys::path::is_absolute(path)) {
    path = frame.getOptions().baseDirectory;
    llvm::sys::path::append(path, op.getFile());
  }
  Expected<std::shared_ptr<const MappedFile>> file = MappedFile::open(path.str().str());
  if (!file)
    return file.takeError();
  int64_t element = elementBytes(type.getElementType()), count = type.getNumElements();
  SmallVector<int64_t> strides = stridesOf(type.getShape());
  if (op.getStrides())
    strides.assign(op.getStrides()->begin(), op.getStrides()->end());
  int64_t last = 0; // the farthest element
  for (auto [size, stride] : llvm::zip(type.getShape(), strides))
    if (llvm::MulOverflow(std::max<int64_t>(size, 1) - 1, stride, stride) || llvm::AddOverflow(last, stride, last))
      return frame.fail(*op, "strides inside the file");
  if (last >= INT64_MAX / element)
    return frame.fail(*op, "strides inside the file");
  auto data =
      (*file)->slice(op.getOffset(), count ? (last + 1) * element : 0, op.getName().value_or("skim.external").str());
  if (!data)
    return data.takeError();
  if (!op.getStrides() || count == 0) {
    frame.set(op.getResult(), Tensor(type.getElementType(), type.getShape(), data->data(), *file));
    return true;
  }
  auto gathered = std::make_shared<std::vector<uint8_t>>();
  SmallVector<int64_t> index(strides.size(), 0);
  do {
    int64_t at = 0;
    for (auto [i, stride] : llvm::zip(index, *op.getStrides()))
      at += i * stride;
    const uint8_t *first = data->data() + at * element;
    gathered->insert(gathered->end(), first, first + element);
  } while (advance(index, type.getShape()));
  frame.set(op.getResult(), Tensor(type.getElementType(), type.getShape(), gathered->data(), gathered));
  return true;
}

/// Products and sums in double, whatever the elements are.
template <typename T>
static Handled multiply(LinearOp op, Frame &frame, const std::vector<T> &input, const std::vector<T> &w) {
  const Tensor &x = frame.get(op.getInput()), &weight = frame.get(op.getWeight());
  int64_t n = weight.getDim(0), k = weight.getDim(1);
  if (static_cast<int64_t>(w.size()) != n * k)
    return frame.fail(*op, "a weight that its components decode to");
  SmallVector<int64_t> shape(x.getShape());
  shape.back() = n;
  Tensor y = makeResult(op.getResult(), shape);
  for (int64_t row = 0, rows = x.getNumElements() / k; row < rows; ++row)
    for (int64_t column = 0; column < n; ++column) {
      double sum = op.getBias() ? frame.get(op.getBias()).at(column) : 0;
      for (int64_t i = 0; i < k; ++i)
        sum += static_cast<double>(input[row * k + i]) * w[column * k + i];
      y.set(row * n + column, sum);
    }
  frame.set(op.getResult(), y);
  return true;
}

static Handled runLinear(LinearOp op, Frame &frame) {
  const Tensor &x = frame.get(op.getInput()), &weight = frame.get(op.getWeight());
  if (x.getElementType().isF64() || weight.getElementType().isF64())
    return multiply(op, frame, x.toDoubles(), weight.toDoubles());
  return multiply(op, frame, x.toFloats(), weight.toFloats());
}

static Handled runEmbed(EmbedOp op, Frame &frame) {
  const Tensor &ids = frame.get(op.getIds()), &table = frame.get(op.getTable());
  std::vector<float> decoded;
  int64_t rows = table.getDim(0), channels = table.getDim(1);
  if (table.getEncoding()) {
    decoded = table.toFloats();
    if (decoded.empty())
      return frame.fail(*op, "a table that its components decode to");
  }
  SmallVector<int64_t> shape(ids.getShape());
  shape.push_back(channels);
  Tensor y = makeResult(op.getResult(), shape);
  for (int64_t i = 0, e = ids.getNumElements(); i < e; ++i) {
    int64_t id = ids.intAt(i);
    if (id < 0 || id >= rows)
      return frame.fail(*op, "ids below " + std::to_string(rows), std::to_string(id));
    for (int64_t c = 0; c < channels; ++c)
      y.set(i * channels + c, decoded.empty() ? table.at(id * channels + c) : decoded[id * channels + c]);
  }
  frame.set(op.getResult(), y);
  return true;
}

static Handled runConvert(ConvertOp op, Frame &frame) {
  const Tensor &input = frame.get(op.getInput());
  auto type = cast<RankedTensorType>(op.getType());
  WeightEncoding target = skim::getEncoding(type);
  if (isEncoded(type) && !target) {
    Tensor cast(type.getElementType(), input.getShape());
    for (int64_t i = 0, e = input.getNumElements(); i < e; ++i)
      cast.set(i, input.at(i));
    std::optional<Tensor> quantized = quantizeActivation(cast, type.getEncoding());
    if (!quantized)
      return frame.fail(*op, "an encoding of activations");
    frame.set(op.getResult(), *quantized);
    return true;
  }
  if (target && !isa<DenseAttr>(target))
    return frame.fail(*op, "a conversion that decodes (only these have a reference)");
  std::vector<float> values = input.toFloats();
  if (static_cast<int64_t>(values.size()) != input.getNumElements())
    return frame.fail(*op, "an input that its components decode to");
  Tensor data(target ? cast<DenseAttr>(target).getType() : type.getElementType(), input.getShape());
  for (auto [i, value] : llvm::enumerate(values))
    data.set(i, value);
  frame.set(op.getResult(), target ? Tensor(type, {data}) : data);
  return true;
}

Handled skim::reference::interpretSkim(Operation &op, Frame &frame) {
  if (auto external = dyn_cast<ExternalOp>(op))
    return runExternal(external, frame);
  if (auto linear = dyn_cast<LinearOp>(op))
    return runLinear(linear, frame);
  if (auto embed = dyn_cast<EmbedOp>(op))
    return runEmbed(embed, frame);
  if (auto convert = dyn_cast<ConvertOp>(op))
    return runConvert(convert, frame);
  if (auto assemble = dyn_cast<AssembleOp>(op)) {
    std::vector<Tensor> components;
    for (Value component : assemble.getComponents())
      components.push_back(frame.get(component));
    frame.set(assemble.getResult(), Tensor(cast<RankedTensorType>(assemble.getType()), std::move(components)));
    return true;
  }
  if (auto disassemble = dyn_cast<DisassembleOp>(op)) {
    for (auto [result, component] : llvm::zip(op.getResults(), frame.get(disassemble.getInput()).getComponents()))
      frame.set(result, component);
    return true;
  }
  if (auto observe = dyn_cast<ObserveOp>(op)) {
    if (frame.getOptions().observe)
      frame.getOptions().observe(observe.getLayer(), frame.get(observe.getInput()));
    return true;
  }
  return false;
}
