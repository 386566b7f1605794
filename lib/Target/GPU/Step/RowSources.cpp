//===- RowSources.cpp - rows that are made where linears pack them ----------===//

#include "KernelValues.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

using Values = KernelBuilder::Values;

namespace {
/// Columns of row first + index of [rows, k] at `stride`.
Values loadRow(DeviceBuilder &builder, const RowSource::Block &block, Value x, Value stride, Value index, Value column,
               int64_t count, bool aligned) {
  StepBuilder b(builder.builder, builder.loc);
  Value row = b.at(x, b.add(block.first, index), stride, b.i32(0));
  return loadColumns(builder, row, column, count, block.k, aligned, b.f32(), true);
}

class NormSource : public RowSource {
public:
  NormSource(double epsilon, double offset, bool aligned) : epsilon(epsilon), offset(offset), aligned(aligned) {}

  std::string name() const override {
    return "_norm_e" + spellNumber(epsilon) + "_o" + spellNumber(offset) + (aligned ? "" : "_u");
  }
  std::string arguments() const override { return "pnp"; }
  bool isOfWholeRows() const override { return true; }

  /// A factor for each row: sums over the row by warps, then over them in order.
  Value prepare(DeviceBuilder &builder, const Block &block) const override {
    StepBuilder b(builder.builder, builder.loc);
    int64_t warps = block.threads / 32;
    Value factors = b.sharedMemory(block.module, block.kernel + "_factors", 4 * block.mostRows * (1 + warps));
    Value sums = b.offset(factors, 4 * block.mostRows);
    b.loop(b.i32(0), block.rows, b.i32(1), [&](Value row) {
      // Fours of columns, all requested before the first is used.
      int64_t fours = (block.k + 3) / 4;
      SmallVector<Values> x;
      Values there;
      for (int64_t i = 0; i < fours; i += block.threads) {
        Value own = b.add(b.threadX(), i);
        there.push_back(b.less(own, b.i32(fours)));
        x.push_back(rowAt(b, block, row, b.mul(b.min(own, b.i32(fours - 1)), 4), 4));
      }
      Value sum = squares(b, x, there);
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

  Values load(DeviceBuilder &b, const Block &block, Value index, Value column, int64_t count) const override {
    Value factor = b.load(b.f32(), b.element(block.prepared, index, b.f32()));
    return scaled(b, rowAt(b, block, index, column, count), factor, weightAt(b, block, column, count));
  }

  /// Elements stay in registers between the sum of squares and the product.
  void makeRow(DeviceBuilder &builder, const Block &block, ArrayRef<Value> columns, ArrayRef<Value> there,
               Put put) const override {
    StepBuilder b(builder.builder, builder.loc);
    int64_t warps = block.threads / 32;
    SmallVector<Values> x, weights;
    for (Value column : columns)
      x.push_back(rowAt(b, block, b.i32(0), column, 4));
    for (Value column : columns)
      weights.push_back(weightAt(b, block, column, 4));
    Value sum = b.warpSum(squares(b, x, there));
    Value sums = b.sharedMemory(block.module, block.kernel + "_squares", 4 * warps);
    b.when(b.equal(b.lane(), b.i32(0)), [&] { b.store(sum, b.element(sums, b.warp(), b.f32())); });
    b.barrier();
    sum = Value();
    for (int64_t warp = 0; warp < warps; warp += 4)
      for (Value word : b.words(b.offset(sums, 4 * warp), std::min<int64_t>(4, warps)))
        sum = sum ? b.add(sum, b.bitcast(word, b.f32())) : b.bitcast(word, b.f32());
    Value mean = b.mul(sum, b.f32(1.0 / static_cast<double>(block.k)));
    Value factor = math::RsqrtOp::create(b.builder, b.loc, b.add(mean, b.f32(epsilon)));
    for (auto [i, four] : llvm::enumerate(x))
      put(i, scaled(b, four, factor, weights[i]));
  }

private:
  double epsilon, offset;
  bool aligned;

  Value squares(DeviceBuilder &b, ArrayRef<Values> x, ArrayRef<Value> there) const {
    Value sum = b.f32(0);
    for (auto [four, counts] : llvm::zip(x, there)) {
      Value own = b.f32(0);
      for (Value number : four)
        own = b.fma(number, number, own);
      sum = b.add(sum, b.select(counts, own, b.f32(0)));
    }
    return sum;
  }
  Values rowAt(DeviceBuilder &b, const Block &block, Value index, Value column, int64_t count) const {
    return loadRow(b, block, block.arguments[0], block.arguments[1], index, column, count, aligned);
  }
  Values weightAt(DeviceBuilder &b, const Block &block, Value column, int64_t count) const {
    return loadColumns(b, block.arguments[2], column, count, block.k, true, b.f32(), true);
  }
  Values scaled(DeviceBuilder &b, Values x, Value factor, ArrayRef<Value> weight) const {
    for (size_t i = 0; i < x.size(); ++i)
      x[i] = b.mul(b.mul(x[i], factor), offset != 0 ? b.add(weight[i], b.f32(offset)) : weight[i]);
    return x;
  }
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

  Values load(DeviceBuilder &builder, const Block &block, Value index, Value column, int64_t count) const override {
    StepBuilder b(builder.builder, builder.loc);
    SmallVector<Values> all;
    for (size_t i = 0; i < inputs; ++i)
      all.push_back(
          loadRow(b, block, block.arguments[2 * i], block.arguments[2 * i + 1], index, column, count, aligned));
    Values results;
    for (int64_t j = 0; j < count; ++j) {
      Values own;
      for (const Values &input : all)
        own.push_back(input[j]);
      Value result = evaluate(b, expression, own);
      // Behind the last column an expression of zeros need not be zero.
      if (block.k % 8)
        result = b.select(b.less(b.add(column, j), b.i32(block.k)), result, b.f32(0));
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
