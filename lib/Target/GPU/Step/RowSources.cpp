//===- RowSources.cpp - rows that are made where linears pack them ----------===//

#include "KernelValues.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

using Values = KernelBuilder::Values;

namespace {
/// Columns of row first + index of [rows, k] at `stride`.
Values loadRow(DeviceBuilder &builder, const RowSource::Block &block, Value x, Value stride, Value index, Value column,
               bool aligned) {
  StepBuilder b(builder.builder, builder.loc);
  Value row = b.at(x, b.add(block.first, index), stride, b.i32(0));
  return loadEight(builder, row, column, block.k, aligned, b.f32(), true);
}

class NormSource : public RowSource {
public:
  NormSource(double epsilon, double offset, bool aligned) : epsilon(epsilon), offset(offset), aligned(aligned) {}

  std::string name() const override {
    return "_norm_e" + spellNumber(epsilon) + "_o" + spellNumber(offset) + (aligned ? "" : "_u");
  }
  std::string arguments() const override { return "pnp"; }

  /// A factor for each row: sums over the row by warps, then over them in order.
  Value prepare(DeviceBuilder &builder, const Block &block) const override {
    StepBuilder b(builder.builder, builder.loc);
    int64_t warps = block.threads / 32;
    Value factors = b.sharedMemory(block.module, block.kernel + "_factors", 4 * block.mostRows * (1 + warps));
    Value sums = b.offset(factors, 4 * block.mostRows);
    b.loop(b.i32(0), block.rows, b.i32(1), [&](Value row) {
      Value at = b.at(block.arguments[0], b.add(block.first, row), block.arguments[1], b.i32(0));
      Value sum = b.loop(b.threadX(), b.i32(block.k), b.i32(block.threads), ValueRange{b.f32(0)},
                         [&](Value c, ValueRange carried) {
                           Value x = b.readOnly(b.f32(), b.element(at, b.wide(c), b.f32()));
                           return Values{b.fma(x, x, carried[0])};
                         })[0];
      sum = b.warpSum(sum);
      b.when(b.equal(b.lane(), b.i32(0)),
             [&] { b.store(sum, b.element(sums, b.add(b.mul(row, warps), b.warp()), b.f32())); });
    });
    b.barrier();
    b.when(b.less(b.threadX(), block.rows), [&] {
      Value own = b.element(sums, b.mul(b.threadX(), warps), b.f32()), sum = b.loadF32(own);
      for (int64_t warp = 1; warp < warps; ++warp)
        sum = b.add(sum, b.loadF32(b.offset(own, 4 * warp)));
      Value mean = b.mul(sum, b.f32(1.0 / static_cast<double>(block.k)));
      Value factor = b.div(b.f32(1), b.sqrt(b.add(mean, b.f32(epsilon))));
      b.store(factor, b.element(factors, b.threadX(), b.f32()));
    });
    b.barrier();
    return factors;
  }

  Values load(DeviceBuilder &b, const Block &block, Value index, Value column) const override {
    Value factor = b.load(b.f32(), b.element(block.prepared, index, b.f32()));
    Values x = loadRow(b, block, block.arguments[0], block.arguments[1], index, column, aligned);
    Values weight = loadEight(b, block.arguments[2], column, block.k, true, b.f32(), true);
    for (size_t i = 0; i < x.size(); ++i)
      x[i] = b.mul(b.mul(x[i], factor), offset != 0 ? b.add(weight[i], b.f32(offset)) : weight[i]);
    return x;
  }

private:
  double epsilon, offset;
  bool aligned;
};

class MapSource : public RowSource {
public:
  MapSource(const Expression &expression, size_t inputs, bool aligned)
      : expression(expression), inputs(inputs), aligned(aligned) {}

  std::string name() const override { return "_" + symbolOf(expression) + (aligned ? "" : "_u"); }
  std::string arguments() const override {
    std::string letters;
    for (size_t i = 0; i < inputs; ++i)
      letters += "pn";
    return letters;
  }

  Values load(DeviceBuilder &builder, const Block &block, Value index, Value column) const override {
    StepBuilder b(builder.builder, builder.loc);
    SmallVector<Values> all;
    for (size_t i = 0; i < inputs; ++i)
      all.push_back(loadRow(b, block, block.arguments[2 * i], block.arguments[2 * i + 1], index, column, aligned));
    Values results;
    for (size_t j = 0; j < 8; ++j) {
      Values own;
      for (const Values &input : all)
        own.push_back(input[j]);
      Value result = evaluate(b, expression, own);
      // Behind the last column an expression of zeros need not be zero.
      if (block.k % 8)
        result = b.select(b.less(b.add(column, static_cast<int64_t>(j)), b.i32(block.k)), result, b.f32(0));
      results.push_back(result);
    }
    if (block.k % 8 == 0 && block.k % 32)
      for (Value &result : results)
        result = b.select(b.less(column, b.i32(block.k)), result, b.f32(0));
    return results;
  }

private:
  Expression expression;
  size_t inputs;
  bool aligned;
};
} // namespace

std::shared_ptr<RowSource> device::normSource(double epsilon, double offset, bool aligned) {
  return std::make_shared<NormSource>(epsilon, offset, aligned);
}

std::shared_ptr<RowSource> device::mapSource(const Expression &expression, size_t inputs, bool aligned) {
  return std::make_shared<MapSource>(expression, inputs, aligned);
}
