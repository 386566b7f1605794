#include "RowTile.h"
#include "Blas.h"
#include "Clones.h"
#include "TableRounding.h"
#include "skim/Support/Float16.h"

#include <algorithm>
#include <cmath>
#include <numeric>

using namespace skim;

// Products go to BLAS, so results belong to one kind of CPU anyway.
#pragma clang fp contract(fast)

namespace {
constexpr int64_t block = 128;  // columns whose effect on the others is one product
constexpr int64_t stripe = 128; // columns of the moment that stay in the cache while rows are grouped
constexpr int64_t width = 16;
} // namespace

//===----------------------------------------------------------------------===//
// Objective
//===----------------------------------------------------------------------===//

/// Uᵀ with (H + damping)⁻¹ = Uᵀ·U: with indices reversed H is L·Lᵀ, then
/// H = R·Rᵀ with R upper, and U = R⁻¹. Empty if H + damping is not positive definite.
static std::vector<float> feedbackFactor(const AlignedVector<float> &moment, int64_t stride, int64_t n,
                                         double damping) {
  std::vector<double> lower(n * n);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j <= i; ++j)
      lower[i * n + j] = moment[(n - 1 - i) * stride + (n - 1 - j)];
  for (int64_t i = 0; i < n; ++i)
    lower[i * n + i] += damping;
  const int size = int(n);
  int info = 0;
  dpotrf_("U", &size, lower.data(), &size, &info); // column-major upper: our lower
  if (info == 0)
    dtrtri_("U", "N", &size, lower.data(), &size, &info);
  if (info != 0)
    return {};
  std::vector<float> factor(n * n, 0.0f);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j <= i; ++j)
      factor[i * n + j] = float(lower[(n - 1 - j) * n + (n - 1 - i)]);
  return factor;
}

Objective skim::prepareObjective(std::span<const float> moment, int64_t columns, float damping,
                                 std::span<const float> alpha) {
  const int64_t n = columns;
  Objective result;
  result.columns = n;
  result.damping = damping;
  auto factor = [&](int64_t k) { return alpha.empty() ? 1.0 : double(alpha[k]); };
  std::vector<double> diagonal(n);
  double mean = 0;
  for (int64_t k = 0; k < n; ++k) {
    diagonal[k] = moment[k * n + k] * factor(k) * factor(k);
    mean += diagonal[k] / double(n);
  }
  if (!(mean > 0))
    mean = 1;
  result.scale = mean;
  result.order.resize(n);
  std::iota(result.order.begin(), result.order.end(), 0);
  std::sort(result.order.begin(), result.order.end(),
            [&](int32_t a, int32_t b) { return diagonal[a] != diagonal[b] ? diagonal[a] > diagonal[b] : a < b; });
  // An odd number of cache lines, so that rows do not compete for the same sets.
  result.stride = (n + stripe - 1) / stripe * stripe + width;
  result.moment.resize(n * result.stride, 0.0f);
  result.inverse.resize(n);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t a = result.order[i];
    const float *row = moment.data() + a * n;
    const double left = factor(a) / mean;
    for (int64_t j = 0; j < n; ++j)
      result.moment[i * result.stride + j] = float(row[result.order[j]] * left * factor(result.order[j]));
    // What calibration never activates, or hardly, still has a nearest entry.
    result.moment[i * result.stride + i] += 1e-8f;
    result.inverse[i] = 1.0f / result.moment[i * result.stride + i];
  }
  for (double more = damping; damping >= 0 && result.feedback.empty(); more = std::max(10 * more, 1e-6))
    result.feedback = feedbackFactor(result.moment, result.stride, n, more);
  return result;
}

//===----------------------------------------------------------------------===//
// Vectors of lanes
//===----------------------------------------------------------------------===//

namespace {

constexpr int64_t vectors = RowTile::lanes / width;
typedef float Vector __attribute__((vector_size(64)));
typedef int32_t Integers __attribute__((vector_size(64)));

SKIM_INLINE Vector load(const float *p) {
  typedef float Unaligned __attribute__((vector_size(64), aligned(4)));
  return *reinterpret_cast<const Unaligned *>(p);
}
SKIM_INLINE void store(float *p, const Vector &v) {
  typedef float Unaligned __attribute__((vector_size(64), aligned(4)));
  *reinterpret_cast<Unaligned *>(p) = v;
}

/// What the steps of a block share.
struct Steps {
  const float *tables;    // [groups][size][lanes]
  const float *middles;   // likewise
  const int32_t *groupOf; // [columns of the block]
  int64_t size;
  uint8_t *code; // [columns of the block][lanes]
};

/// The entry nearest to `value` of column `j` in each lane; its index goes to `code`.
SKIM_INLINE Vector nearest(const Steps &steps, const Vector &value, int64_t j, int64_t lane, uint8_t *code) {
  const int64_t first = steps.groupOf[j] * steps.size * RowTile::lanes + lane;
  const float *tables = steps.tables + first, *middles = steps.middles + first;
  Vector entry = load(tables);
  Integers index = {};
  for (int64_t q = 0; q + 1 < steps.size; ++q) {
    const Integers above = value > load(middles + q * RowTile::lanes);
    const Vector next = load(tables + (q + 1) * RowTile::lanes);
    entry = above ? next : entry;
    index -= above;
  }
  for (int64_t i = 0; i < width; ++i)
    code[i] = uint8_t(index[i]);
  return entry;
}

SKIM_INLINE void nearestLanes(const Steps &steps, const float *values, int64_t j) {
  for (int64_t lane = 0; lane < RowTile::lanes; lane += width)
    nearest(steps, load(values + lane), j, lane, steps.code + j * RowTile::lanes + lane);
}

/// Σ_{i < count} row[i]·changes[i] in the lanes of vector `v`s.
SKIM_INLINE void accumulate(const float *row, const float *changes, int64_t count, Vector (&sum)[vectors]) {
  for (int64_t i = 0; i < count; ++i)
    for (int64_t v = 0; v < vectors; ++v)
      sum[v] += row[i] * load(changes + i * RowTile::lanes + v * width);
}

/// Coordinate descent over a block: `moment` points at its first diagonal entry
/// (rows `stride` apart), `product` at its columns' F·δ. True if a code changed.
SKIM_INLINE bool descendColumns(const Steps &steps, const float *moment, int64_t stride, const float *inverse,
                                const float *product, float *delta, const float *weights, float *changes,
                                int64_t count) {
  Integers any = {};
  for (int64_t j = 0; j < count; ++j) {
    Vector residual[vectors];
    for (int64_t v = 0; v < vectors; ++v)
      residual[v] = load(product + j * RowTile::lanes + v * width);
    accumulate(moment + j * stride, changes, j, residual);
    for (int64_t v = 0; v < vectors; ++v) {
      const int64_t lane = v * width, place = j * RowTile::lanes + lane;
      const Vector before = load(delta + place), weight = load(weights + place);
      const Vector entry = nearest(steps, before + weight - residual[v] * inverse[j], j, lane, steps.code + place);
      const Vector after = entry - weight, change = after - before;
      any |= change != 0.0f;
      store(delta + place, after);
      store(changes + place, change);
    }
  }
  int32_t sum = 0;
  for (int64_t i = 0; i < width; ++i)
    sum |= any[i];
  return sum != 0;
}

/// Error feedback over a block: `factor` points at its first diagonal entry of
/// Uᵀ, `left` at what is left of its weights. `changes` gets −error / U_jj.
SKIM_INLINE void feedbackColumns(const Steps &steps, const float *factor, int64_t stride, const float *left,
                                 float *changes, int64_t count) {
  for (int64_t j = 0; j < count; ++j) {
    Vector value[vectors];
    for (int64_t v = 0; v < vectors; ++v)
      value[v] = load(left + j * RowTile::lanes + v * width);
    accumulate(factor + j * stride, changes, j, value);
    const float scale = 1.0f / factor[j * stride + j];
    for (int64_t v = 0; v < vectors; ++v) {
      const int64_t lane = v * width, place = j * RowTile::lanes + lane;
      const Vector entry = nearest(steps, value[v], j, lane, steps.code + place);
      store(changes + place, (entry - value[v]) * scale);
    }
  }
}

/// Σ of the moment's rows in `list` (ascending), over the stripe of columns from
/// `begin`: rows before the stripe count twice, rows of it once, rows behind it
/// not at all. The moment is symmetric, so the mean of these sums and their
/// transpose is the whole.
SKIM_INLINE void sumColumns(const float *moment, int64_t stride, const int32_t *list, int64_t count, int64_t begin,
                            float *out) {
  constexpr int64_t registers = stripe / width;
  Vector sum[registers] = {}, own[registers] = {};
  int64_t i = 0;
  for (; i < count && list[i] < begin; ++i)
    for (int64_t v = 0; v < registers; ++v)
      sum[v] += load(moment + int64_t(list[i]) * stride + begin + v * width);
  for (; i < count && list[i] < begin + stripe; ++i)
    for (int64_t v = 0; v < registers; ++v)
      own[v] += load(moment + int64_t(list[i]) * stride + begin + v * width);
  for (int64_t v = 0; v < registers; ++v)
    store(out + v * width, sum[v] + sum[v] + own[v]);
}

// Vectors may be arguments of what is compiled into a clone, not of what it calls.

SKIM_CLONES bool descendBlock(const Steps &steps, const float *moment, int64_t stride, const float *inverse,
                              const float *product, float *delta, const float *weights, float *changes, int64_t count) {
  return descendColumns(steps, moment, stride, inverse, product, delta, weights, changes, count);
}

SKIM_CLONES void feedbackBlock(const Steps &steps, const float *factor, int64_t stride, const float *left,
                               float *changes, int64_t count) {
  feedbackColumns(steps, factor, stride, left, changes, count);
}

/// Of one row: adds the stripe's share of PᵀFP to sums[q][c], whose symmetric
/// part is meant. `list`: the columns by
/// code, `first[q]` where those of q begin.
SKIM_CLONES void groupStripe(const float *moment, int64_t stride, const int32_t *list, const int32_t *first,
                             const uint8_t *codes, int64_t begin, int64_t end, int64_t size, double *sums) {
  alignas(64) float grouped[stripe];
  for (int64_t q = 0; q < size; ++q) {
    if (first[q] == first[q + 1])
      continue;
    sumColumns(moment, stride, list + first[q], first[q + 1] - first[q], begin, grouped);
    for (int64_t j = begin; j < end; ++j)
      sums[q * size + codes[j]] += grouped[j - begin];
  }
}

SKIM_CLONES void nearestCodes(const Steps &steps, const float *weights, int64_t columns) {
  for (int64_t i = 0; i < columns; ++i)
    nearestLanes(steps, weights + i * RowTile::lanes, i);
}

} // namespace

//===----------------------------------------------------------------------===//
// Rows in and out
//===----------------------------------------------------------------------===//

RowTile::RowTile(const Objective &objective, unsigned bits, DType table, TableShape shape)
    : objective(&objective), columns(objective.columns), size(int64_t(1) << bits), type(table), shape(shape),
      weights(columns * lanes), delta(columns * lanes), product(columns * lanes), changes(block * lanes),
      code(columns * lanes), bestObjective(lanes) {
  const int64_t group = shape.isGrid() && shape.group > 0 ? shape.group : std::max<int64_t>(1, columns);
  groups = std::max<int64_t>(1, (columns + group - 1) / group);
  for (int64_t i = 0; i < columns; ++i)
    groupOf.push_back(int32_t(objective.order[i] / group));
  tables.resize(groups * size * lanes);
  middles.resize(groups * size * lanes);
  scales.resize(groups * lanes);
  zeros.resize(groups * lanes);
}

void RowTile::setRow(int64_t lane, const float *row, const float *alpha) {
  for (int64_t i = 0; i < columns; ++i) {
    const int64_t k = objective->order[i];
    weights[i * lanes + lane] = alpha ? row[k] / alpha[k] : row[k];
  }
  known = false;
}

void RowTile::setValues(int64_t lane, int64_t group, const float *values, float scale) {
  const int64_t first = group * size * lanes + lane;
  for (int64_t q = 0; q < size; ++q)
    tables[first + q * lanes] = values[q];
  for (int64_t q = 0; q + 1 < size; ++q)
    middles[first + q * lanes] = (values[q] + values[q + 1]) / 2;
  scales[group * lanes + lane] = scale;
}

void RowTile::setTable(int64_t lane, const float *values, float scale) { setValues(lane, 0, values, scale); }

void RowTile::setGrid(int64_t lane, int64_t group, float scale, float zero) {
  float values[256];
  for (int64_t q = 0; q < size; ++q) {
    const int64_t stored = scale < 0 ? size - 1 - q : q;
    values[q] = shape.kind == TableShape::Symmetric ? scale * float(stored - size / 2) : scale * (float(stored) - zero);
  }
  setValues(lane, group, values, scale);
  zeros[group * lanes + lane] = zero;
}

void RowTile::setCodes(int64_t lane, const uint8_t *codes) {
  for (int64_t i = 0; i < columns; ++i) {
    const uint8_t stored = codes[objective->order[i]];
    code[i * lanes + lane] = isTurned(lane, groupOf[i]) ? uint8_t(size - 1 - stored) : stored;
  }
  known = false;
}

void RowTile::fill(int64_t count) {
  used = count;
  active = (count + width - 1) / width * width;
  auto repeat = [&](auto &array, int64_t rows) {
    for (int64_t i = 0; i < rows; ++i)
      std::fill(array.begin() + i * lanes + used, array.begin() + (i + 1) * lanes, array[i * lanes]);
  };
  repeat(weights, columns);
  repeat(code, columns);
  repeat(tables, groups * size);
  repeat(middles, groups * size);
  repeat(scales, groups);
  repeat(zeros, groups);
}

void RowTile::table(int64_t lane, float *values) const {
  for (int64_t q = 0; q < size; ++q)
    values[q] = tables[q * lanes + lane];
}

void RowTile::codes(int64_t lane, uint8_t *out) const {
  for (int64_t i = 0; i < columns; ++i) {
    const uint8_t own = code[i * lanes + lane];
    out[objective->order[i]] = isTurned(lane, groupOf[i]) ? uint8_t(size - 1 - own) : own;
  }
}

void RowTile::decode(int64_t lane, float *out) const {
  for (int64_t i = 0; i < columns; ++i)
    out[objective->order[i]] = entry(i, lane);
}

//===----------------------------------------------------------------------===//
// The objective
//===----------------------------------------------------------------------===//

void RowTile::updateDeltas() {
  for (int64_t i = 0; i < columns; ++i)
    for (int64_t lane = 0; lane < lanes; ++lane)
      delta[i * lanes + lane] = entry(i, lane) - weights[i * lanes + lane];
}

void RowTile::products() {
  gemm(columns, active, columns, 1.0f, objective->moment.data(), objective->stride, false, delta.data(), lanes, 0.0f,
       product.data(), lanes);
}

void RowTile::objectives(double *out) const {
  std::fill(out, out + lanes, 0.0);
  for (int64_t i = 0; i < columns; ++i)
    for (int64_t lane = 0; lane < lanes; ++lane)
      out[lane] += double(delta[i * lanes + lane]) * double(product[i * lanes + lane]);
}

void RowTile::errors(double *out) {
  if (!known) {
    updateDeltas();
    products();
    objectives(bestObjective.data());
    known = true;
  }
  for (int64_t lane = 0; lane < lanes; ++lane)
    out[lane] = std::max(0.0, bestObjective[lane] * objective->scale);
}

//===----------------------------------------------------------------------===//
// Codes
//===----------------------------------------------------------------------===//

void RowTile::roundToNearest() {
  nearestCodes({tables.data(), middles.data(), groupOf.data(), size, code.data()}, weights.data(), columns);
  known = false;
}

void RowTile::feedback() {
  AlignedVector<float> &left = product;
  left = weights;
  const float *factor = objective->feedback.data();
  for (int64_t begin = 0; begin < columns; begin += block) {
    const int64_t count = std::min(block, columns - begin), end = begin + count;
    const Steps steps = {tables.data(), middles.data(), groupOf.data() + begin, size, code.data() + begin * lanes};
    feedbackBlock(steps, factor + begin * columns + begin, columns, left.data() + begin * lanes, changes.data(), count);
    if (end < columns)
      gemm(columns - end, active, count, 1.0f, factor + end * columns + begin, columns, false, changes.data(), lanes,
           1.0f, left.data() + end * lanes, lanes);
  }
  known = false;
}

void RowTile::descend() {
  const float *moment = objective->moment.data();
  const int64_t stride = objective->stride;
  for (int64_t begin = 0; begin < columns; begin += block) {
    const int64_t count = std::min(block, columns - begin), place = begin * lanes;
    const Steps steps = {tables.data(), middles.data(), groupOf.data() + begin, size, code.data() + place};
    if (descendBlock(steps, moment + begin * stride + begin, stride, objective->inverse.data() + begin,
                     product.data() + place, delta.data() + place, weights.data() + place, changes.data(), count))
      gemm(columns, active, count, 1.0f, moment + begin, stride, false, changes.data(), lanes, 1.0f, product.data(),
           lanes);
  }
}

//===----------------------------------------------------------------------===//
// Tables
//===----------------------------------------------------------------------===//

void RowTile::solveTable(int64_t lane) {
  std::vector<double> gradient(size, 0.0);
  for (int64_t i = 0; i < columns; ++i)
    gradient[code[i * lanes + lane]] -= product[i * lanes + lane];
  std::vector<float> values(size);
  table(lane, values.data());
  float scale = scales[lane];
  if (!improveTable(std::span(normal).subspan(lane * size * size, size * size), gradient, type, values, scale))
    return;
  // Entries ascend; codes follow them.
  std::vector<uint8_t> rank(size), from(size);
  std::iota(from.begin(), from.end(), 0);
  std::sort(from.begin(), from.end(),
            [&](uint8_t a, uint8_t b) { return values[a] != values[b] ? values[a] < values[b] : a < b; });
  bool moved = false;
  for (int64_t q = 0; q < size; ++q) {
    rank[from[q]] = uint8_t(q);
    moved |= from[q] != q;
  }
  std::sort(values.begin(), values.end());
  setTable(lane, values.data(), scale);
  for (int64_t i = 0; moved && i < columns; ++i)
    code[i * lanes + lane] = rank[code[i * lanes + lane]];
}

/// Σ over a group's columns, with u_q the code (Symmetric: as a signed number):
/// uᵀFu, 1ᵀFu, 1ᵀF1 of its block of F, and −uᵀFδ, −1ᵀFδ.
struct skim::GridEquations {
  double square = 0, cross = 0, whole = 0, left = 0, sum = 0;
};

/// The scale and zero that lower the objective most, where they do: T = s·u + c
/// (Symmetric: c = 0). False if they stay.
bool RowTile::fitLane(int64_t lane, int64_t group, const GridEquations &e) {
  const float before = scales[group * lanes + lane], zeroBefore = zeros[group * lanes + lane];
  const double determinant = e.square * e.whole - e.cross * e.cross;
  const bool affine = shape.kind == TableShape::Affine;
  if (!(e.square > 0) || (affine && !(determinant > 1e-9 * e.square * e.whole)))
    return false;
  const double change = affine ? (e.left * e.whole - e.cross * e.sum) / determinant : e.left / e.square;
  const float scale = roundToF16(float(before + change));
  // Codes would have to be turned, or there is no grid.
  if (!(scale * before > 0) || !std::isfinite(scale))
    return false;
  float zero = zeroBefore;
  if (affine) {
    // The best offset beside the scale that is stored.
    const double offset = -double(before) * zero + (e.sum - e.cross * (scale - before)) / e.whole;
    zero = roundToF16(float(-offset / scale));
    if (!std::isfinite(zero))
      return false;
  }
  setGrid(lane, group, scale, zero);
  return true;
}

/// fitLane for all lanes with a group's columns `members`; δ and F·δ follow.
void RowTile::fitGroup(const std::vector<int32_t> &members, int64_t group) {
  const int64_t count = int64_t(members.size());
  const bool affine = shape.kind == TableShape::Affine;
  float low[lanes], sign[lanes];
  for (int64_t lane = 0; lane < lanes; ++lane) {
    const bool turned = isTurned(lane, group);
    sign[lane] = turned ? -1.0f : 1.0f;
    low[lane] = (turned ? float(size - 1) : 0.0f) - (affine ? 0.0f : float(size / 2));
  }
  // Rows of F that are the group's (F is symmetric: its columns).
  AlignedVector<float> rows(count * columns), own(count * count), steps(count * lanes), image(count * lanes);
  for (int64_t j = 0; j < count; ++j) {
    const float *row = objective->moment.data() + members[j] * objective->stride;
    std::copy_n(row, columns, rows.begin() + j * columns);
    for (int64_t i = 0; i < count; ++i)
      own[j * count + i] = row[members[i]];
    for (int64_t lane = 0; lane < lanes; ++lane)
      steps[j * lanes + lane] = sign[lane] * float(code[members[j] * lanes + lane]) + low[lane];
  }
  gemm(count, active, count, 1.0f, own.data(), count, false, steps.data(), lanes, 0.0f, image.data(), lanes);
  const double whole = affine ? std::accumulate(own.begin(), own.end(), 0.0) : 0.0;
  for (int64_t lane = 0; lane < used; ++lane) {
    GridEquations equations;
    equations.whole = whole;
    for (int64_t j = 0; j < count; ++j) {
      const int64_t place = members[j] * lanes + lane, compact = j * lanes + lane;
      equations.square += double(steps[compact]) * image[compact];
      equations.cross += image[compact];
      equations.left -= double(steps[compact]) * product[place];
      equations.sum -= product[place];
    }
    fitLane(lane, group, equations);
  }
  // `steps` become what changed.
  for (int64_t j = 0; j < count; ++j)
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const int64_t place = members[j] * lanes + lane;
      const float after = entry(members[j], lane) - weights[place];
      steps[j * lanes + lane] = after - delta[place];
      delta[place] = after;
    }
  if (groups > 1)
    gemm(columns, active, count, 1.0f, rows.data(), columns, true, steps.data(), lanes, 1.0f, product.data(), lanes);
}

/// Group by group, each beside what the others are now: what a pass leaves is
/// little against what codes change next.
void RowTile::fitGrids() {
  std::vector<std::vector<int32_t>> members(groups);
  for (int64_t i = 0; i < columns; ++i)
    members[groupOf[i]].push_back(int32_t(i));
  for (int64_t group = 0; group < groups; ++group)
    fitGroup(members[group], group);
}

/// `normal` of each lane.
void RowTile::sumEquations() {
  normal.assign(lanes * size * size, 0.0);
  std::vector<uint8_t> rowCodes(lanes * columns);
  std::vector<int32_t> lists(lanes * columns), firsts(lanes * (size + 1), 0);
  for (int64_t lane = 0; lane < used; ++lane) {
    uint8_t *codes = rowCodes.data() + lane * columns;
    int32_t *first = firsts.data() + lane * (size + 1);
    for (int64_t i = 0; i < columns; ++i)
      ++first[(codes[i] = code[i * lanes + lane]) + 1];
    std::partial_sum(first, first + size + 1, first);
    std::vector<int32_t> next(first, first + size);
    for (int64_t i = 0; i < columns; ++i)
      lists[lane * columns + next[codes[i]]++] = int32_t(i);
  }
  // A stripe of the moment stays in the cache for all rows.
  for (int64_t begin = 0; begin < columns; begin += stripe)
    for (int64_t lane = 0; lane < used; ++lane)
      groupStripe(objective->moment.data(), objective->stride, lists.data() + lane * columns,
                  firsts.data() + lane * (size + 1), rowCodes.data() + lane * columns, begin,
                  std::min(columns, begin + stripe), size, normal.data() + lane * size * size);
}

void RowTile::leastSquares() {
  if (shape.kind == TableShape::Fixed)
    return;
  if (shape.isGrid())
    return fitGrids();
  sumEquations();
  for (int64_t lane = 0; lane < used; ++lane)
    solveTable(lane);
}

void RowTile::addEquations(std::span<const double> lanesWeights, std::span<double> sums, std::span<double> gradient) {
  updateDeltas();
  products();
  sumEquations();
  for (int64_t lane = 0; lane < used; ++lane) {
    const double *own = normal.data() + lane * size * size;
    for (int64_t i = 0; i < size * size; ++i)
      sums[i] += lanesWeights[lane] * own[i];
    for (int64_t i = 0; i < columns; ++i)
      gradient[code[i * lanes + lane]] -= lanesWeights[lane] * product[i * lanes + lane];
  }
}

//===----------------------------------------------------------------------===//
// LNQ
//===----------------------------------------------------------------------===//

void RowTile::keepBest() {
  double now[lanes];
  objectives(now);
  for (int64_t lane = 0; lane < used; ++lane) {
    if (!(now[lane] < bestObjective[lane]))
      continue;
    bestObjective[lane] = now[lane];
    for (int64_t group = 0; group < groups; ++group) {
      bestScales[group * lanes + lane] = scales[group * lanes + lane];
      bestZeros[group * lanes + lane] = zeros[group * lanes + lane];
    }
    for (int64_t q = 0; q < groups * size; ++q)
      bestTables[q * lanes + lane] = tables[q * lanes + lane];
    for (int64_t i = 0; i < columns; ++i)
      bestCode[i * lanes + lane] = code[i * lanes + lane];
  }
}

void RowTile::restoreBest() {
  code = bestCode;
  tables = bestTables;
  scales = bestScales;
  zeros = bestZeros;
  for (int64_t group = 0; group < groups; ++group)
    for (int64_t i = group * size * lanes; i < ((group + 1) * size - 1) * lanes; ++i)
      middles[i] = (tables[i] + tables[i + lanes]) / 2;
}

void RowTile::renew(int cycles) {
  if (!objective->feedback.empty())
    feedback();
  updateDeltas();
  products();
  for (int cycle = 0; cycle < cycles; ++cycle)
    descend();
  leastSquares();
  known = false;
}

void RowTile::refine(int rounds, int cycles) {
  updateDeltas();
  products();
  objectives(bestObjective.data());
  bestCode = code;
  bestTables = tables;
  bestScales = scales;
  bestZeros = zeros;
  for (int round = 0; round <= rounds; ++round) {
    if (round > 0 && !objective->feedback.empty()) {
      // A better table deserves codes from the beginning: it leads out of the local optimum of the one before.
      feedback();
      updateDeltas();
      products();
    }
    for (int cycle = 0; round > 0 && cycle < cycles; ++cycle)
      descend();
    leastSquares();
    updateDeltas();
    products();
    keepBest();
  }
  restoreBest();
  known = true;
}

std::vector<TileRows> skim::cutIntoTiles(size_t count, const std::function<int64_t(size_t)> &groupOf) {
  std::vector<TileRows> tiles;
  for (size_t i = 0; i < count; ++i) {
    const int64_t group = groupOf(i);
    if (tiles.empty() || tiles.back().group != group || i - tiles.back().begin == size_t(RowTile::lanes))
      tiles.push_back({i, i, group});
    tiles.back().end = i + 1;
  }
  return tiles;
}
