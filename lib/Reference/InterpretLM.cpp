//===- InterpretLM.cpp - the reference of the language model operations -----===//

#include "Frame.h"
#include "skim/LM/LMOps.h"
#include "skim/Reference/Activation.h"

#include <cmath>

using namespace mlir;
using namespace skim;
using namespace skim::reference;

static Handled runRMSNorm(lm::RMSNormOp op, Frame &frame) {
  const Tensor &x = frame.get(op.getInput()), &weight = frame.get(op.getWeight());
  int64_t size = weight.getDim(0);
  double epsilon = op.getEpsilon().convertToDouble(), offset = op.getOffset().convertToDouble();
  Tensor y = makeResult(op.getResult(), x.getShape());
  for (int64_t begin = 0, e = x.getNumElements(); begin < e; begin += size) {
    double squares = 0;
    for (int64_t c = 0; c < size; ++c)
      squares += x.at(begin + c) * x.at(begin + c);
    double scale = 1 / std::sqrt(squares / static_cast<double>(size) + epsilon);
    for (int64_t c = 0; c < size; ++c)
      y.set(begin + c, x.at(begin + c) * scale * (weight.at(c) + offset));
  }
  frame.set(op.getResult(), y);
  return true;
}

static Handled runSiLU(lm::SiLUOp op, Frame &frame) {
  const Tensor &x = frame.get(op.getInput());
  Tensor y = makeResult(op.getResult(), x.getShape());
  for (int64_t i = 0, e = x.getNumElements(); i < e; ++i)
    y.set(i, x.at(i) / (1 + std::exp(-x.at(i))));
  frame.set(op.getResult(), y);
  return true;
}

static Handled runPositions(lm::PositionsOp op, Frame &frame) {
  const Tensor &tokens = frame.get(op.getTokens()), &start = frame.get(op.getStart());
  int64_t batch = tokens.getDim(0), length = tokens.getDim(1);
  if (start.getDim(0) != batch)
    return frame.fail(*op, std::to_string(batch) + " starts", start.describe());
  Tensor p = makeResult(op.getResult(), tokens.getShape());
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t s = 0; s < length; ++s)
      p.setInt(b * length + s, start.intAt(b) + s);
  frame.set(op.getResult(), p);
  return true;
}

static Handled runRotaryTable(lm::RotaryTableOp op, Frame &frame) {
  const Tensor &positions = frame.get(op.getPositions()), &frequencies = frame.get(op.getFrequencies());
  int64_t count = frequencies.getDim(0);
  double scale = op.getScale().convertToDouble();
  SmallVector<int64_t> shape(positions.getShape());
  shape.push_back(count);
  Tensor cos = makeResult(op.getCos(), shape), sin = makeResult(op.getSin(), shape);
  for (int64_t p = 0, e = positions.getNumElements(); p < e; ++p)
    for (int64_t i = 0; i < count; ++i) {
      // Rounded to f32 as exporters compute it: at large positions it matters.
      double angle =
          static_cast<float>(static_cast<double>(static_cast<float>(positions.intAt(p))) * frequencies.at(i));
      cos.set(p * count + i, scale * std::cos(angle));
      sin.set(p * count + i, scale * std::sin(angle));
    }
  frame.set(op.getCos(), cos);
  frame.set(op.getSin(), sin);
  return true;
}

static Handled runRotary(lm::RotaryOp op, Frame &frame) {
  const Tensor &x = frame.get(op.getInput()), &cos = frame.get(op.getCos()), &sin = frame.get(op.getSin());
  int64_t channels = x.getDim(-1), heads = op.getHeads(), size = channels / heads, rotated = cos.getDim(-1);
  if (cos.getShape().drop_back() != x.getShape().drop_back() || cos.getShape() != sin.getShape())
    return frame.fail(*op, "tables for the tokens of " + x.describe(), cos.describe() + " and " + sin.describe());
  Tensor y = makeResult(op.getResult(), x.getShape());
  for (int64_t token = 0, tokens = x.getNumElements() / channels; token < tokens; ++token)
    for (int64_t head = 0; head < heads; ++head) {
      int64_t base = token * channels + head * size;
      for (int64_t c = 2 * rotated; c < size; ++c)
        y.set(base + c, x.at(base + c));
      for (int64_t i = 0; i < rotated; ++i) {
        int64_t first = base + (op.getInterleaved() ? 2 * i : i);
        int64_t second = base + (op.getInterleaved() ? 2 * i + 1 : i + rotated);
        double a = x.at(first), b = x.at(second), c = cos.at(token * rotated + i), s = sin.at(token * rotated + i);
        y.set(first, a * c - b * s);
        y.set(second, b * c + a * s);
      }
    }
  frame.set(op.getResult(), y);
  return true;
}

static Handled runCacheAppend(lm::CacheAppendOp op, Frame &frame) {
  const Tensor &x = frame.get(op.getInput()), &cache = frame.get(op.getCache());
  const Tensor &start = frame.get(op.getStart()), &count = frame.get(op.getCount());
  int64_t batch = cache.getDim(0), heads = cache.getDim(1), capacity = cache.getDim(2), size = cache.getDim(3);
  if (x.getDim(0) != batch || start.getDim(0) != batch || count.getDim(0) != batch)
    return frame.fail(*op, "a batch of " + std::to_string(batch), x.describe() + ", " + start.describe());
  Tensor result = makeResult(op.getResult(), cache.getShape());
  for (int64_t i = 0, e = cache.getNumElements(); i < e; ++i)
    result.set(i, cache.at(i));
  // An encoded cache quantizes each token of each head as it comes.
  Tensor fresh = x;
  if (Attribute encoding = cast<RankedTensorType>(op.getType()).getEncoding()) {
    std::optional<Tensor> quantized = quantizeActivation(x.reshaped({batch, x.getDim(1), heads, size}), encoding);
    if (!quantized)
      return frame.fail(*op, "a cache in an encoding of activations");
    fresh = *quantized;
  }
  for (int64_t b = 0; b < batch; ++b) {
    if (start.intAt(b) < 0 || count.intAt(b) > x.getDim(1) || start.intAt(b) + count.intAt(b) > capacity)
      return frame.fail(*op, "new tokens that fit a cache of capacity " + std::to_string(capacity),
                        std::to_string(count.intAt(b)) + " from " + std::to_string(start.intAt(b)));
    for (int64_t s = 0; s < count.intAt(b); ++s)
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t d = 0; d < size; ++d)
          result.set(((b * heads + h) * capacity + start.intAt(b) + s) * size + d,
                     fresh.at(((b * x.getDim(1) + s) * heads + h) * size + d));
  }
  frame.set(op.getResult(), result);
  return true;
}

static Handled runAttention(lm::AttentionOp op, Frame &frame) {
  const Tensor &query = frame.get(op.getQuery()), &start = frame.get(op.getStart());
  const Tensor &keys = frame.get(op.getKeys()), &values = frame.get(op.getValues());
  int64_t batch = query.getDim(0), length = query.getDim(1), heads = op.getHeads();
  int64_t cacheHeads = keys.getDim(1), capacity = keys.getDim(2), size = keys.getDim(3), valueSize = values.getDim(3);
  if (keys.getDim(0) != batch || values.getDim(0) != batch || values.getDim(2) != capacity || start.getDim(0) != batch)
    return frame.fail(*op, "caches for a batch of " + std::to_string(batch),
                      keys.describe() + " and " + values.describe());
  double scale = op.getScale().convertToDouble();
  double softcap = op.getSoftcap() ? op.getSoftcap()->convertToDouble() : 0;
  Tensor y = makeResult(op.getResult(), {batch, length, heads * valueSize});
  std::vector<double> k = keys.toDoubles(), v = values.toDoubles(), q = query.toDoubles();
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t s = 0; s < length; ++s)
      for (int64_t h = 0; h < heads; ++h) {
        // Right padding may stand behind the cache's end; its rows mean nothing but must be finite.
        int64_t last = std::min(start.intAt(b) + s, capacity - 1);
        int64_t first = op.getWindow() ? std::max<int64_t>(0, last - static_cast<int64_t>(*op.getWindow()) + 1) : 0;
        int64_t cacheHead = b * cacheHeads + h / (heads / cacheHeads);
        std::vector<double> weights;
        double most = -INFINITY, sum = 0;
        for (int64_t j = first; j <= last; ++j) {
          double dot = 0;
          for (int64_t d = 0; d < size; ++d)
            dot += q[((b * length + s) * heads + h) * size + d] * k[(cacheHead * capacity + j) * size + d];
          dot *= scale;
          if (softcap != 0)
            dot = softcap * std::tanh(dot / softcap);
          weights.push_back(dot);
          most = std::max(most, dot);
        }
        for (double &weight : weights)
          sum += weight = std::exp(weight - most);
        for (int64_t d = 0; d < valueSize; ++d) {
          double value = 0;
          for (auto [j, weight] : llvm::enumerate(weights))
            value += weight / sum * v[(cacheHead * capacity + first + static_cast<int64_t>(j)) * valueSize + d];
          y.set(((b * length + s) * heads + h) * valueSize + d, value);
        }
      }
  frame.set(op.getResult(), y);
  return true;
}

static Handled runGatherRows(lm::GatherRowsOp op, Frame &frame) {
  const Tensor &x = frame.get(op.getInput()), &rows = frame.get(op.getRows());
  int64_t channels = x.getDim(-1), available = channels ? x.getNumElements() / channels : 0;
  Tensor y = makeResult(op.getResult(), {rows.getDim(0), channels});
  for (int64_t i = 0; i < rows.getDim(0); ++i) {
    if (rows.intAt(i) < 0 || rows.intAt(i) >= available)
      return frame.fail(*op, "rows below " + std::to_string(available), std::to_string(rows.intAt(i)));
    for (int64_t c = 0; c < channels; ++c)
      y.set(i * channels + c, x.at(rows.intAt(i) * channels + c));
  }
  frame.set(op.getResult(), y);
  return true;
}

static Handled runCrossEntropy(lm::CrossEntropyOp op, Frame &frame) {
  const Tensor &logits = frame.get(op.getLogits()), &targets = frame.get(op.getTargets());
  int64_t vocabulary = logits.getDim(-1);
  if (logits.getShape().drop_back() != targets.getShape())
    return frame.fail(*op, "a target a row of " + logits.describe(), targets.describe());
  Tensor loss = makeResult(op.getResult(), targets.getShape());
  for (int64_t i = 0, e = targets.getNumElements(); i < e; ++i) {
    if (targets.intAt(i) < 0 || targets.intAt(i) >= vocabulary)
      return frame.fail(*op, "targets below " + std::to_string(vocabulary), std::to_string(targets.intAt(i)));
    double most = -INFINITY, sum = 0;
    for (int64_t v = 0; v < vocabulary; ++v)
      most = std::max(most, logits.at(i * vocabulary + v));
    for (int64_t v = 0; v < vocabulary; ++v)
      sum += std::exp(logits.at(i * vocabulary + v) - most);
    loss.set(i, most + std::log(sum) - logits.at(i * vocabulary + targets.intAt(i)));
  }
  frame.set(op.getResult(), loss);
  return true;
}

Handled skim::reference::interpretLM(Operation &operation, Frame &frame) {
  return llvm::TypeSwitch<Operation *, Handled>(&operation)
      .Case([&](lm::RMSNormOp op) { return runRMSNorm(op, frame); })
      .Case([&](lm::SiLUOp op) { return runSiLU(op, frame); })
      .Case([&](lm::PositionsOp op) { return runPositions(op, frame); })
      .Case([&](lm::RotaryTableOp op) { return runRotaryTable(op, frame); })
      .Case([&](lm::RotaryOp op) { return runRotary(op, frame); })
      .Case([&](lm::CacheAppendOp op) { return runCacheAppend(op, frame); })
      .Case([&](lm::AttentionOp op) { return runAttention(op, frame); })
      .Case([&](lm::GatherRowsOp op) { return runGatherRows(op, frame); })
      .Case([&](lm::CrossEntropyOp op) { return runCrossEntropy(op, frame); })
      .Default([](Operation *) -> Handled { return false; });
}
