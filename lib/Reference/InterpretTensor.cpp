//===- InterpretTensor.cpp - the reference of the tensor dialect ------------===//

#include "Frame.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;
using namespace skim;
using namespace skim::reference;

/// Copies element `from` of `source` to element `to` of `target`, of one type.
static void copyElement(const Tensor &source, int64_t from, Tensor &target, int64_t to) {
  if (source.isFloat())
    target.set(to, source.at(from));
  else
    target.setInt(to, source.intAt(from));
}

static Tensor copyOf(const Tensor &source) {
  Tensor copy(source.getElementType(), source.getShape());
  for (int64_t i = 0, e = source.getNumElements(); i < e; ++i)
    copyElement(source, i, copy, i);
  return copy;
}

/// Attributes and operands of sizes, offsets and strides, as numbers.
static SmallVector<int64_t> evaluate(ArrayRef<OpFoldResult> values, const Frame &frame) {
  SmallVector<int64_t> numbers;
  for (OpFoldResult value : values) {
    if (auto attr = dyn_cast<Attribute>(value))
      numbers.push_back(cast<IntegerAttr>(attr).getInt());
    else
      numbers.push_back(frame.get(cast<Value>(value)).intAt(0));
  }
  return numbers;
}

static SmallVector<int64_t> evaluate(ValueRange values, const Frame &frame) {
  SmallVector<int64_t> numbers;
  for (Value value : values)
    numbers.push_back(frame.get(value).intAt(0));
  return numbers;
}

/// The row-major position of an index, or nothing where it leaves the shape.
static std::optional<int64_t> position(ArrayRef<int64_t> index, ArrayRef<int64_t> shape) {
  int64_t result = 0;
  for (auto [i, size] : llvm::zip(index, shape)) {
    if (i < 0 || i >= size)
      return std::nullopt;
    result = result * size + i;
  }
  return result;
}

/// Visits the elements of a slice: fn(i, position in the whole). False where it leaves the whole.
template <typename Fn>
static bool forEachOfSlice(ArrayRef<int64_t> whole, ArrayRef<int64_t> offsets, ArrayRef<int64_t> sizes,
                           ArrayRef<int64_t> strides, Fn fn) {
  for (int64_t size : sizes)
    if (size < 0)
      return false;
  if (llvm::is_contained(sizes, 0))
    return true;
  SmallVector<int64_t> index(sizes.size(), 0), place(sizes.size());
  int64_t i = 0;
  do {
    for (size_t d = 0; d < sizes.size(); ++d)
      place[d] = offsets[d] + index[d] * strides[d];
    std::optional<int64_t> at = position(place, whole);
    if (!at)
      return false;
    fn(i++, *at);
  } while (advance(index, sizes));
  return true;
}

static Handled runExtractSlice(tensor::ExtractSliceOp op, Frame &frame) {
  const Tensor &source = frame.get(op.getSource());
  SmallVector<int64_t> sizes = evaluate(op.getMixedSizes(), frame), shape;
  llvm::SmallBitVector dropped = op.getDroppedDims();
  for (auto [d, size] : llvm::enumerate(sizes))
    if (!dropped.test(d))
      shape.push_back(size);
  if (llvm::any_of(sizes, [](int64_t size) { return size < 0; }))
    return frame.fail(*op, "sizes of at least 0");
  Tensor result = makeResult(op.getResult(), shape);
  if (!forEachOfSlice(source.getShape(), evaluate(op.getMixedOffsets(), frame), sizes,
                      evaluate(op.getMixedStrides(), frame),
                      [&](int64_t i, int64_t at) { copyElement(source, at, result, i); }))
    return frame.fail(*op, "a slice inside " + source.describe());
  frame.set(op.getResult(), result);
  return true;
}

static Handled runInsertSlice(tensor::InsertSliceOp op, Frame &frame) {
  const Tensor &source = frame.get(op.getSource());
  Tensor result = copyOf(frame.get(op.getDest()));
  SmallVector<int64_t> sizes = evaluate(op.getMixedSizes(), frame);
  int64_t count = 1;
  for (int64_t size : sizes)
    count *= size;
  if (count != source.getNumElements() ||
      !forEachOfSlice(result.getShape(), evaluate(op.getMixedOffsets(), frame), sizes,
                      evaluate(op.getMixedStrides(), frame),
                      [&](int64_t i, int64_t at) { copyElement(source, i, result, at); }))
    return frame.fail(*op, "a slice inside " + result.describe(), source.describe());
  frame.set(op.getResult(), result);
  return true;
}

static Handled runConcat(tensor::ConcatOp op, Frame &frame) {
  int64_t dim = op.getDim();
  SmallVector<int64_t> shape(frame.get(op.getInputs().front()).getShape());
  shape[dim] = 0;
  for (Value input : op.getInputs())
    shape[dim] += frame.get(input).getDim(dim);
  Tensor result = makeResult(op.getResult(), shape);
  SmallVector<int64_t> offsets(shape.size(), 0), strides(shape.size(), 1);
  for (Value input : op.getInputs()) {
    const Tensor &part = frame.get(input);
    if (!forEachOfSlice(shape, offsets, part.getShape(), strides,
                        [&](int64_t i, int64_t at) { copyElement(part, i, result, at); }))
      return frame.fail(*op, "inputs that agree outside dimension " + std::to_string(dim), part.describe());
    offsets[dim] += part.getDim(dim);
  }
  frame.set(op.getResult(), result);
  return true;
}

static Handled runPad(tensor::PadOp op, Frame &frame) {
  const Tensor &source = frame.get(op.getSource());
  SmallVector<int64_t> low = evaluate(op.getMixedLowPad(), frame), high = evaluate(op.getMixedHighPad(), frame);
  Value padding = op.getConstantPaddingValue();
  if (!padding)
    return frame.fail(*op, "one padding value");
  if (Operation *inner = padding.getDefiningOp(); inner && op->isProperAncestor(inner))
    if (Handled handled = interpretElementwise(*inner, frame); !handled || !*handled)
      return frame.fail(*op, "a constant padding value");
  SmallVector<int64_t> shape(source.getShape()), strides(low.size(), 1);
  for (size_t d = 0; d < shape.size(); ++d)
    shape[d] += low[d] + high[d];
  Tensor result = makeResult(op.getResult(), shape);
  for (int64_t i = 0, e = result.getNumElements(); i < e; ++i)
    copyElement(frame.get(padding), 0, result, i);
  if (!forEachOfSlice(shape, low, source.getShape(), strides,
                      [&](int64_t i, int64_t at) { copyElement(source, i, result, at); }))
    return frame.fail(*op, "padding of at least 0");
  frame.set(op.getResult(), result);
  return true;
}

static Handled runGenerate(tensor::GenerateOp op, Frame &frame) {
  SmallVector<int64_t> shape(cast<RankedTensorType>(op.getType()).getShape());
  auto extents = op.getDynamicExtents().begin();
  for (int64_t &size : shape)
    if (ShapedType::isDynamic(size))
      size = frame.get(*extents++).intAt(0);
  Tensor result = makeResult(op.getResult(), shape);
  if (result.getNumElements() > 0) {
    SmallVector<int64_t> index(shape.size(), 0);
    int64_t i = 0;
    do {
      std::vector<Tensor> arguments;
      for (int64_t value : index)
        arguments.push_back(Tensor::index(op.getContext(), value));
      Expected<std::vector<Tensor>> value = frame.run(op.getBody().front(), arguments);
      if (!value)
        return value.takeError();
      copyElement(value->front(), 0, result, i++);
    } while (advance(index, shape));
  }
  frame.set(op.getResult(), result);
  return true;
}

/// `result` shares the input's elements in another shape.
static Handled reshape(Operation &op, Frame &frame, const Tensor &input, ArrayRef<int64_t> shape) {
  int64_t count = 1;
  for (int64_t size : shape)
    count *= size;
  if (count != input.getNumElements())
    return frame.fail(op, std::to_string(count) + " elements", input.describe());
  frame.set(op.getResult(0), input.reshaped(shape));
  return true;
}

Handled skim::reference::interpretTensor(Operation &operation, Frame &frame) {
  return llvm::TypeSwitch<Operation *, Handled>(&operation)
      .Case([&](tensor::ExtractSliceOp op) { return runExtractSlice(op, frame); })
      .Case([&](tensor::InsertSliceOp op) { return runInsertSlice(op, frame); })
      .Case([&](tensor::ConcatOp op) { return runConcat(op, frame); })
      .Case([&](tensor::PadOp op) { return runPad(op, frame); })
      .Case([&](tensor::GenerateOp op) { return runGenerate(op, frame); })
      .Case([&](tensor::DimOp op) -> Handled {
        const Tensor &source = frame.get(op.getSource());
        int64_t dim = frame.get(op.getIndex()).intAt(0);
        if (dim < 0 || dim >= source.getRank())
          return frame.fail(operation, "a dimension of " + source.describe(), std::to_string(dim));
        frame.set(op.getResult(), Tensor::index(op.getContext(), source.getDim(dim)));
        return true;
      })
      .Case([&](tensor::CastOp op) -> Handled {
        frame.set(op.getResult(), frame.get(op.getSource()));
        return true;
      })
      .Case([&](tensor::EmptyOp op) -> Handled {
        frame.set(op.getResult(), makeResult(op.getResult(), evaluate(op.getMixedSizes(), frame)));
        return true;
      })
      .Case([&](tensor::SplatOp op) -> Handled {
        SmallVector<int64_t> shape(op.getType().getShape());
        auto sizes = op.getDynamicSizes().begin();
        for (int64_t &size : shape)
          if (ShapedType::isDynamic(size))
            size = frame.get(*sizes++).intAt(0);
        Tensor result = makeResult(op.getResult(), shape);
        for (int64_t i = 0, e = result.getNumElements(); i < e; ++i)
          copyElement(frame.get(op.getInput()), 0, result, i);
        frame.set(op.getResult(), result);
        return true;
      })
      .Case([&](tensor::FromElementsOp op) -> Handled {
        Tensor result = makeResult(op.getResult(), op.getType().getShape());
        for (auto [i, element] : llvm::enumerate(op.getElements()))
          copyElement(frame.get(element), 0, result, static_cast<int64_t>(i));
        frame.set(op.getResult(), result);
        return true;
      })
      .Case([&](tensor::ExtractOp op) -> Handled {
        const Tensor &source = frame.get(op.getTensor());
        std::optional<int64_t> at = position(evaluate(op.getIndices(), frame), source.getShape());
        if (!at)
          return frame.fail(operation, "an index inside " + source.describe());
        Tensor result(source.getElementType(), {});
        copyElement(source, *at, result, 0);
        frame.set(op.getResult(), result);
        return true;
      })
      .Case([&](tensor::InsertOp op) -> Handled {
        Tensor result = copyOf(frame.get(op.getDest()));
        std::optional<int64_t> at = position(evaluate(op.getIndices(), frame), result.getShape());
        if (!at)
          return frame.fail(operation, "an index inside " + result.describe());
        copyElement(frame.get(op.getScalar()), 0, result, *at);
        frame.set(op.getResult(), result);
        return true;
      })
      .Case([&](tensor::ExpandShapeOp op) {
        return reshape(operation, frame, frame.get(op.getSrc()), evaluate(op.getMixedOutputShape(), frame));
      })
      .Case([&](tensor::CollapseShapeOp op) {
        const Tensor &source = frame.get(op.getSrc());
        SmallVector<int64_t> shape;
        for (const auto &group : op.getReassociationIndices()) {
          shape.push_back(1);
          for (int64_t d : group)
            shape.back() *= source.getDim(d);
        }
        return reshape(operation, frame, source, shape);
      })
      .Case([&](tensor::ReshapeOp op) {
        const Tensor &shape = frame.get(op.getShape());
        SmallVector<int64_t> sizes;
        for (int64_t i = 0, e = shape.getNumElements(); i < e; ++i)
          sizes.push_back(shape.intAt(i));
        return reshape(operation, frame, frame.get(op.getSource()), sizes);
      })
      .Default([](Operation *) -> Handled { return false; });
}
