#include "skim/Quantize/Allocation.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <tuple>

using namespace skim;

//===----------------------------------------------------------------------===//
// Chains of points
//===----------------------------------------------------------------------===//

namespace {

/// Something that can be chosen: its cost, its loss, and how to find it again.
struct Point {
  uint64_t bytes = 0;
  double error = 0;
  /// What `position` counts: steps of a pool's rows, widths, or steps among pools.
  enum Kind : uint16_t { Mixed, Uniform, Pools } kind = Mixed;
  uint16_t family = 0;
  uint32_t position = 0;
};

/// Ascending bytes; strictly falling errors where made by `pareto` or `lowerHull`.
using Chain = std::vector<Point>;

double slope(const Point &from, const Point &to) { return (from.error - to.error) / double(to.bytes - from.bytes); }

/// A total order: by bytes, then error, then the earlier choice.
bool cheaper(const Point &a, const Point &b) {
  return std::tie(a.bytes, a.error, a.family, a.kind, a.position) <
         std::tie(b.bytes, b.error, b.family, b.kind, b.position);
}

/// Steeper first, then the earlier row, pool or unit (`owner`). Steps of one
/// owner have falling slopes and so stay in order.
template <typename Step> void sortSteps(std::vector<Step> &steps) {
  std::sort(steps.begin(), steps.end(),
            [](const Step &a, const Step &b) { return a.slope != b.slope ? a.slope > b.slope : a.owner < b.owner; });
}

/// Of points in order of `cheaper`, those with less error than all before.
Chain undominated(const Chain &points) {
  Chain out;
  for (const Point &point : points)
    if (out.empty() || point.error < out.back().error)
      out.push_back(point);
  return out;
}

/// Of points in order of `cheaper`, the vertices of the lower convex hull, from
/// the cheapest to the one of least error.
Chain lowerHull(const Chain &points) {
  Chain out;
  for (const Point &point : points) {
    if (!out.empty() && point.error >= out.back().error)
      continue;
    while (out.size() > 1 && slope(out.back(), point) >= slope(out[out.size() - 2], out.back()))
      out.pop_back();
    out.push_back(point);
  }
  return out;
}

/// The last point of at most `bytes`, or null.
const Point *within(const Chain &chain, uint64_t bytes) {
  auto after = std::upper_bound(chain.begin(), chain.end(), bytes,
                                [](uint64_t limit, const Point &point) { return limit < point.bytes; });
  return after == chain.begin() ? nullptr : &*(after - 1);
}

//===----------------------------------------------------------------------===//
// Pools, families, units
//===----------------------------------------------------------------------===//

/// Rows of one layer in one family, or of several layers whose rows are tied.
struct Pool {
  std::vector<size_t> layers;
  size_t rows = 0;
  /// The narrowest sensible width of each row, and the steps that widen them, by falling slope.
  std::vector<uint8_t> base;
  struct Step {
    uint32_t row;
    uint8_t width;
  };
  std::vector<Step> steps;
  Chain mixed, uniform, hull;

  /// Widths of the rows at one of this pool's points.
  std::vector<uint8_t> widthsAt(const Point &point) const {
    if (point.kind == Point::Uniform)
      return std::vector<uint8_t>(rows, static_cast<uint8_t>(point.position));
    std::vector<uint8_t> widths = base;
    for (uint32_t i = 0; i < point.position; ++i)
      widths[steps[i].row] = steps[i].width;
    return widths;
  }
};

/// A family of a unit: the chains among which it can be somewhere.
struct Family {
  std::vector<Pool> pools;
  /// Several pools: steps on their hulls by falling slope; position p has taken the first p.
  std::vector<uint32_t> merged;
  Chain hull;
};

/// A layer, or layers that share a choice.
struct Unit {
  std::vector<size_t> layers;
  std::vector<Family> families;
  Chain hull; ///< over all families

  /// Calls `visit` with every chain of every family, hulls last.
  template <typename Visit> void chains(Visit visit) const {
    for (const Family &family : families) {
      if (family.pools.size() == 1) {
        visit(family.pools[0].mixed);
        visit(family.pools[0].uniform);
      } else {
        visit(family.hull);
      }
    }
  }

  /// The least error within `bytes`, or null if nothing is that small.
  const Point *best(uint64_t bytes) const {
    const Point *found = nullptr;
    chains([&](const Chain &chain) {
      const Point *point = within(chain, bytes);
      if (point && (!found || point->error < found->error))
        found = point;
    });
    return found;
  }
};

} // namespace

/// One pool from the same family of several layers (usually one).
static Pool makePool(std::span<const AllocationLayer> layers, std::vector<size_t> members, size_t family) {
  const AllocationFamily &first = layers[members[0]].families[family];
  const size_t widths = first.widths();
  Pool pool;
  pool.layers = std::move(members);
  pool.rows = first.rows();
  uint64_t fixedBytes = 0, mixedBytes = 0;
  std::vector<uint64_t> rowBytes(widths);
  std::vector<const double *> errors;
  for (size_t layer : pool.layers) {
    const AllocationFamily &f = layers[layer].families[family];
    fixedBytes += f.fixedBytes;
    mixedBytes += f.mixedBytes;
    for (size_t w = 0; w < widths; ++w)
      rowBytes[w] += f.rowBytes[w];
    errors.push_back(f.errors.data());
  }

  struct Sortable {
    double slope, gain;
    uint32_t owner; ///< the row
    uint8_t from, to;
  };
  std::vector<Sortable> sorted;
  sorted.reserve(pool.rows * (widths - 1));
  std::vector<double> uniformErrors(widths);
  std::vector<size_t> inUse(widths);
  uint64_t bytes = fixedBytes;
  double error = 0;
  Chain row;
  for (size_t n = 0; n < pool.rows; ++n) {
    row.clear();
    for (size_t w = 0; w < widths; ++w) {
      double sum = 0;
      for (const double *e : errors)
        sum += e[n * widths + w];
      uniformErrors[w] += sum;
      row.push_back({rowBytes[w], sum, Point::Uniform, 0, static_cast<uint32_t>(w)});
    }
    std::sort(row.begin(), row.end(), cheaper);
    const Chain hull = lowerHull(row);
    const auto width = static_cast<uint8_t>(hull[0].position);
    pool.base.push_back(width);
    ++inUse[width];
    bytes += hull[0].bytes;
    error += hull[0].error;
    for (size_t i = 1; i < hull.size(); ++i)
      sorted.push_back({slope(hull[i - 1], hull[i]), hull[i - 1].error - hull[i].error, static_cast<uint32_t>(n),
                        static_cast<uint8_t>(hull[i - 1].position), static_cast<uint8_t>(hull[i].position)});
  }
  // Stable: equal slopes stay in order of rows, and steps of one row in theirs.
  sortSteps(sorted);

  for (size_t w = 0; w < widths; ++w)
    pool.uniform.push_back({fixedBytes + pool.rows * rowBytes[w], uniformErrors[w], Point::Uniform,
                            static_cast<uint16_t>(family), static_cast<uint32_t>(w)});
  std::sort(pool.uniform.begin(), pool.uniform.end(), cheaper);
  pool.uniform = undominated(pool.uniform);

  // Where all rows happen to have one width, the point is among the uniform ones and owes no permutation.
  auto record = [&](size_t taken) {
    bool isUniform = std::any_of(inUse.begin(), inUse.end(), [&](size_t count) { return count == pool.rows; });
    if (!isUniform)
      pool.mixed.push_back(
          {bytes + mixedBytes, error, Point::Mixed, static_cast<uint16_t>(family), static_cast<uint32_t>(taken)});
  };
  record(0);
  pool.steps.reserve(sorted.size());
  for (const Sortable &next : sorted) {
    pool.steps.push_back({next.owner, next.to});
    --inUse[next.from];
    ++inUse[next.to];
    bytes += rowBytes[next.to] - rowBytes[next.from];
    error -= next.gain;
    record(pool.steps.size());
  }
  Chain all;
  std::merge(pool.mixed.begin(), pool.mixed.end(), pool.uniform.begin(), pool.uniform.end(), std::back_inserter(all),
             cheaper);
  pool.hull = lowerHull(all);
  return pool;
}

/// The sums of all pools' points that are on the hull of the sums.
static void mergePools(Family &family, size_t index) {
  struct Sortable {
    double slope;
    uint32_t owner, position; ///< of the pool, on its hull
  };
  std::vector<Sortable> sorted;
  Point point{0, 0, Point::Pools, static_cast<uint16_t>(index), 0};
  for (uint32_t p = 0; p < family.pools.size(); ++p) {
    const Chain &hull = family.pools[p].hull;
    point.bytes += hull[0].bytes;
    point.error += hull[0].error;
    for (uint32_t i = 1; i < hull.size(); ++i)
      sorted.push_back({slope(hull[i - 1], hull[i]), p, i});
  }
  sortSteps(sorted);
  family.hull.push_back(point);
  for (const Sortable &next : sorted) {
    const Chain &hull = family.pools[next.owner].hull;
    family.merged.push_back(next.owner);
    point.bytes += hull[next.position].bytes - hull[next.position - 1].bytes;
    point.error -= hull[next.position - 1].error - hull[next.position].error;
    ++point.position;
    family.hull.push_back(point);
  }
}

//===----------------------------------------------------------------------===//
// Checks
//===----------------------------------------------------------------------===//

static Error checkLayer(const AllocationLayer &layer) {
  if (layer.families.empty())
    return fail("layer has nothing to choose from", layer.name, "at least one term", "none");
  if (layer.families.size() > 0xFFFF)
    return fail("layer has too many terms to choose from", layer.name, "at most 65535",
                std::to_string(layer.families.size()));
  for (const AllocationFamily &family : layer.families) {
    const std::string where = family.name.empty() ? layer.name : layer.name + ", " + family.name;
    const size_t widths = family.widths();
    if (widths == 0 || widths > 256 || family.errors.size() % widths || family.rows() > 0xFFFFFF)
      return fail("errors of a layer do not fit its rows", where, "rows x (1 to 256 widths) numbers",
                  std::to_string(family.errors.size()) + " numbers for " + std::to_string(widths) + " widths");
    for (size_t i = 0; i < family.errors.size(); ++i) {
      if (std::isfinite(family.errors[i]))
        continue;
      char text[32];
      std::snprintf(text, sizeof text, "%g", family.errors[i]);
      return fail("error of an allocation is not finite",
                  where + ", row " + std::to_string(i / widths) + ", width " + std::to_string(i % widths),
                  "a finite number", text);
    }
  }
  return Error::success();
}

static Error checkGroup(std::span<const AllocationLayer> layers, const AllocationGroup &group,
                        std::vector<bool> &grouped) {
  for (size_t member : group.layers) {
    if (member >= layers.size())
      return fail("group names a layer that is not there", {}, "a number below " + std::to_string(layers.size()),
                  std::to_string(member));
    const AllocationLayer &layer = layers[member], &first = layers[group.layers[0]];
    if (grouped[member])
      return fail("layer is in two groups", layer.name);
    grouped[member] = true;
    if (layer.families.size() != first.families.size())
      return fail("layers of a group have different terms", layer.name + " and " + first.name,
                  std::to_string(first.families.size()) + " terms", std::to_string(layer.families.size()));
    for (size_t f = 0; group.shares == AllocationGroup::Shares::Rows && f < layer.families.size(); ++f)
      if (layer.families[f].rows() != first.families[f].rows() ||
          layer.families[f].widths() != first.families[f].widths())
        return fail("layers that share their rows' widths differ in rows or widths",
                    layer.name + " and " + first.name + ", " + first.families[f].name,
                    std::to_string(first.families[f].rows()) + " x " + std::to_string(first.families[f].widths()),
                    std::to_string(layer.families[f].rows()) + " x " + std::to_string(layer.families[f].widths()));
  }
  return Error::success();
}

//===----------------------------------------------------------------------===//
// The model
//===----------------------------------------------------------------------===//

struct Allocator::Model {
  std::vector<AllocationLayer> layers;
  std::vector<Unit> units;
  /// Steps on the units' hulls by falling slope: unit `owner` to vertex `position`.
  struct Step {
    double slope;
    uint32_t owner, position;
  };
  std::vector<Step> steps;
  uint64_t least = 0, most = 0;

  void add(std::vector<size_t> members, AllocationGroup::Shares shares) {
    Unit unit;
    unit.layers = std::move(members);
    Chain all;
    for (size_t f = 0; f < layers[unit.layers[0]].families.size(); ++f) {
      Family family;
      if (shares == AllocationGroup::Shares::Rows)
        family.pools.push_back(makePool(layers, unit.layers, f));
      else
        for (size_t layer : unit.layers)
          family.pools.push_back(makePool(layers, {layer}, f));
      if (family.pools.size() == 1)
        family.hull = family.pools[0].hull;
      else
        mergePools(family, f);
      all.insert(all.end(), family.hull.begin(), family.hull.end());
      unit.families.push_back(std::move(family));
    }
    std::sort(all.begin(), all.end(), cheaper);
    unit.hull = lowerHull(all);
    units.push_back(std::move(unit));
  }

  void link() {
    for (uint32_t u = 0; u < units.size(); ++u) {
      const Chain &hull = units[u].hull;
      least += hull.front().bytes;
      most += hull.back().bytes;
      for (uint32_t i = 1; i < hull.size(); ++i)
        steps.push_back({slope(hull[i - 1], hull[i]), u, i});
    }
    sortSteps(steps);
  }

  Allocation describe(const std::vector<Point> &chosen) const;
};

namespace {

/// A choice for every unit, and what may still be spent.
struct State {
  std::vector<Point> chosen;
  std::vector<uint32_t> vertex; ///< on the units' hulls, while steps are taken
  uint64_t bytes = 0;
  double error = 0;

  void move(size_t unit, const Point &to) {
    bytes += to.bytes - chosen[unit].bytes;
    error += to.error - chosen[unit].error;
    chosen[unit] = to;
  }
};

class Search {
public:
  Search(const std::vector<Unit> &units, uint64_t budget) : units(units), budget(budget) {}

  /// Takes what fits, unit by unit each as one changes most, until nothing does.
  void improve(State &state, double bound) const {
    while (change(state) || (worthwhile(state, bound) && exchange(state))) {
    }
  }

private:
  /// Exchanges are for coarse choices; where rows are mixed the gap is far below this.
  bool worthwhile(const State &state, double bound) const { return state.error - bound > 1e-4 * std::abs(bound); }

  /// The change of one unit that gains most within the budget.
  bool change(State &state) const {
    const uint64_t left = budget - state.bytes;
    const Point *best = nullptr;
    size_t where = 0;
    double gain = 0;
    for (size_t u = 0; u < units.size(); ++u) {
      const Point *point = units[u].best(state.chosen[u].bytes + left);
      if (point && state.chosen[u].error - point->error > gain) {
        gain = state.chosen[u].error - point->error;
        best = point;
        where = u;
      }
    }
    if (best)
      state.move(where, *best);
    return best;
  }

  /// Points of a unit that are tried first in an exchange: all of short chains,
  /// and the vertices of its hull around the present one.
  std::vector<Point> candidates(const Unit &unit, const Point &present) const {
    std::vector<Point> out;
    unit.chains([&](const Chain &chain) {
      if (chain.size() <= 64)
        out.insert(out.end(), chain.begin(), chain.end());
    });
    auto at = std::lower_bound(unit.hull.begin(), unit.hull.end(), present.bytes,
                               [](const Point &point, uint64_t bytes) { return point.bytes < bytes; });
    auto first = at - std::min<ptrdiff_t>(at - unit.hull.begin(), 2);
    auto last = at + std::min<ptrdiff_t>(unit.hull.end() - at, 3);
    out.insert(out.end(), first, last);
    return out;
  }

  /// Two units change together. The first exchange that gains, by unit.
  bool exchange(State &state) const {
    const double smallest = 1e-12 * std::abs(state.error);
    for (size_t i = 0; i < units.size(); ++i) {
      double gain = smallest;
      Point first, second;
      size_t partner = 0;
      for (const Point &point : candidates(units[i], state.chosen[i])) {
        const uint64_t others = state.bytes - state.chosen[i].bytes;
        for (size_t j = 0; j < units.size(); ++j) {
          const uint64_t rest = others - (j == i ? 0 : state.chosen[j].bytes) + point.bytes;
          if (j == i || rest > budget)
            continue;
          const Point *best = units[j].best(budget - rest);
          if (!best)
            continue;
          double sum = (state.chosen[i].error - point.error) + (state.chosen[j].error - best->error);
          if (sum > gain) {
            gain = sum;
            first = point;
            second = *best;
            partner = j;
          }
        }
      }
      if (gain > smallest) {
        state.move(i, first);
        state.move(partner, second);
        return true;
      }
    }
    return false;
  }

  const std::vector<Unit> &units;
  uint64_t budget;
};

} // namespace

void LayerAllocation::count(const AllocationFamily &given) {
  bytes = given.fixedBytes;
  error = 0;
  mixed = false;
  for (size_t n = 0; n < widths.size(); ++n) {
    bytes += given.rowBytes[widths[n]];
    error += given.errors[n * given.widths() + widths[n]];
    mixed |= widths[n] != widths[0];
  }
  bytes += mixed ? given.mixedBytes : 0;
}

void Allocation::count() {
  bytes = 0;
  error = 0;
  for (const LayerAllocation &layer : layers) {
    bytes += layer.bytes;
    error += layer.error;
  }
}

Allocation Allocator::Model::describe(const std::vector<Point> &chosen) const {
  Allocation result;
  result.layers.resize(layers.size());
  for (size_t u = 0; u < units.size(); ++u) {
    const Family &family = units[u].families[chosen[u].family];
    std::vector<uint32_t> vertices(family.pools.size());
    for (uint32_t i = 0; chosen[u].kind == Point::Pools && i < chosen[u].position; ++i)
      ++vertices[family.merged[i]];
    for (size_t p = 0; p < family.pools.size(); ++p) {
      const Pool &pool = family.pools[p];
      const Point &point = chosen[u].kind == Point::Pools ? pool.hull[vertices[p]] : chosen[u];
      const std::vector<uint8_t> widths = pool.widthsAt(point);
      for (size_t index : pool.layers) {
        const AllocationFamily &given = layers[index].families[chosen[u].family];
        LayerAllocation &layer = result.layers[index];
        layer.family = chosen[u].family;
        layer.widths = widths;
        layer.count(given);
      }
    }
  }
  result.count();
  return result;
}

//===----------------------------------------------------------------------===//
// The allocator
//===----------------------------------------------------------------------===//

Allocator::Allocator(std::shared_ptr<const Model> model) : model(std::move(model)) {}

Expected<Allocator> Allocator::create(std::span<const AllocationLayer> layers,
                                      std::span<const AllocationGroup> groups) {
  for (const AllocationLayer &layer : layers)
    if (Error error = checkLayer(layer))
      return error;
  std::vector<bool> grouped(layers.size());
  std::vector<const AllocationGroup *> groupOf(layers.size());
  for (const AllocationGroup &group : groups) {
    if (Error error = checkGroup(layers, group, grouped))
      return error;
    for (size_t layer : group.layers)
      groupOf[layer] = &group;
  }
  auto model = std::make_shared<Model>();
  model->layers.assign(layers.begin(), layers.end());
  for (size_t i = 0; i < layers.size(); ++i) {
    if (!groupOf[i])
      model->add({i}, AllocationGroup::Shares::Family);
    else if (i == *std::min_element(groupOf[i]->layers.begin(), groupOf[i]->layers.end()))
      model->add(groupOf[i]->layers, groupOf[i]->shares);
  }
  model->link();
  return Allocator(std::move(model));
}

uint64_t Allocator::minimumBytes() const { return model->least; }
uint64_t Allocator::maximumBytes() const { return model->most; }

Expected<Allocation> Allocator::allocate(uint64_t budget) const {
  if (budget < model->least)
    return fail("budget is below what the formats can reach", {}, "at least " + std::to_string(model->least) + " bytes",
                std::to_string(budget));
  const std::vector<Unit> &units = model->units;
  const std::vector<Model::Step> &steps = model->steps;
  State state;
  state.vertex.resize(units.size());
  for (const Unit &unit : units) {
    state.chosen.push_back(unit.hull[0]);
    state.bytes += unit.hull[0].bytes;
    state.error += unit.hull[0].error;
  }
  auto go = [&](State &s, uint32_t unit, uint32_t vertex) {
    s.move(unit, units[unit].hull[vertex]);
    s.vertex[unit] = vertex;
  };
  auto cost = [&](const Model::Step &step) {
    const Chain &hull = units[step.owner].hull;
    return hull[step.position].bytes - hull[step.position - 1].bytes;
  };
  size_t next = 0;
  for (; next < steps.size() && cost(steps[next]) <= budget - state.bytes; ++next)
    go(state, steps[next].owner, steps[next].position);
  double bound = state.error;
  if (next < steps.size()) {
    bound -= steps[next].slope * double(budget - state.bytes);
    auto fill = [&](State &s, size_t from) {
      for (size_t i = from; i < steps.size() && s.bytes < budget; ++i)
        if (steps[i].position == s.vertex[steps[i].owner] + 1 && cost(steps[i]) <= budget - s.bytes)
          go(s, steps[i].owner, steps[i].position);
    };
    const Search search(units, budget);
    // The step that does not fit, paid for by the last ones taken.
    State other = state;
    go(other, steps[next].owner, steps[next].position);
    size_t undone = next;
    while (other.bytes > budget && undone > 0) {
      const Model::Step &step = steps[--undone];
      if (step.owner != steps[next].owner)
        go(other, step.owner, step.position - 1);
    }
    // Or without it.
    fill(state, next + 1);
    search.improve(state, bound);
    if (other.bytes <= budget) {
      fill(other, undone);
      search.improve(other, bound);
      if (other.error < state.error)
        state = std::move(other);
    }
  }
  Allocation result = model->describe(state.chosen);
  result.slope = next < steps.size() ? steps[next].slope : 0;
  result.errorBound = std::min(bound, result.error);
  return result;
}

std::vector<ParetoPoint> Allocator::pareto(size_t points) const {
  std::vector<ParetoPoint> out;
  ParetoPoint present;
  for (const Unit &unit : model->units) {
    present.bytes += unit.hull[0].bytes;
    present.error += unit.hull[0].error;
  }
  const uint64_t least = model->least, range = model->most - least;
  size_t next = 0;
  for (size_t i = 0; i < points; ++i) {
    // In doubles: the product of a large model's bytes and many points exceeds no integer that way.
    const uint64_t budget =
        i + 1 == points ? model->most : least + uint64_t(double(range) * (double(i) / double(points - 1)));
    for (; next < model->steps.size(); ++next) {
      const Chain &hull = model->units[model->steps[next].owner].hull;
      const Point &from = hull[model->steps[next].position - 1], &to = hull[model->steps[next].position];
      if (present.bytes + (to.bytes - from.bytes) > budget)
        break;
      present.bytes += to.bytes - from.bytes;
      present.error += to.error - from.error;
    }
    if (out.empty() || out.back().bytes != present.bytes)
      out.push_back(present);
  }
  return out;
}

Expected<Allocation> skim::allocateGlobal(std::span<const AllocationLayer> layers,
                                          std::span<const AllocationGroup> groups, uint64_t budget) {
  Expected<Allocator> allocator = Allocator::create(layers, groups);
  if (!allocator)
    return allocator.takeError();
  return allocator->allocate(budget);
}

//===----------------------------------------------------------------------===//
// Costs
//===----------------------------------------------------------------------===//

static uint64_t sumOfRowBytes(const std::vector<ComponentSpec> &components) {
  uint64_t bytes = 0;
  for (const ComponentSpec &component : components)
    bytes += component.rowBytes;
  return bytes;
}

uint64_t skim::storedRowBytes(const CodebookFormat &format, int64_t columns) {
  return sumOfRowBytes(componentsOf(format, 1, columns));
}

uint64_t skim::storedRowBytes(const UniformFormat &format, int64_t columns) {
  return sumOfRowBytes(componentsOf(format, 1, columns));
}

uint64_t skim::permutationBytes(int64_t rows) { return uint64_t(rows) * (rows > 65536 ? 4 : 2); }
