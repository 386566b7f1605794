#include "skim/Quantize/Allocation.h"

#include <algorithm>

using namespace skim;

namespace {
/// One layer; costs are errors and what bytes are worth.
class TileMover {
public:
  TileMover(const AllocationFamily &family, std::vector<uint8_t> &widths, double slope)
      : family(family), widths(widths), slope(slope), counts(family.widths()) {
    for (uint8_t width : widths)
      ++counts[width];
    for (size_t width = 0; width < counts.size(); ++width)
      if (counts[width])
        open.push_back(static_cast<uint8_t>(width));
    std::sort(open.begin(), open.end(), [&](uint8_t a, uint8_t b) {
      return family.rowBytes[a] != family.rowBytes[b] ? family.rowBytes[a] < family.rowBytes[b] : a < b;
    });
  }

  void move(size_t tile) {
    for (; open.size() > 1; open.pop_back())
      if (size_t more = counts[open.back()] % tile)
        settle(open.back(), more, tile - more);
  }

private:
  struct Move {
    double cost;
    size_t row;
    uint8_t to;
    bool operator<(const Move &other) const { return cost != other.cost ? cost < other.cost : row < other.row; }
  };
  using Moves = std::vector<Move>;

  double cost(size_t row, uint8_t width) const {
    return family.errors[row * family.widths() + width] + slope * static_cast<double>(family.rowBytes[width]);
  }

  /// The `count` cheapest and what they cost together.
  static double keepCheapest(Moves &moves, size_t count) {
    std::sort(moves.begin(), moves.end());
    moves.resize(count);
    double sum = 0;
    for (const Move &move : moves)
      sum += move.cost;
    return sum;
  }

  /// `more` rows leave the width, or `missing` come.
  void settle(uint8_t width, size_t more, size_t missing) {
    Moves out, in;
    for (size_t row = 0; row < widths.size(); ++row) {
      uint8_t now = widths[row];
      if (now == width) {
        Move best = {0, row, width};
        for (uint8_t other : open)
          if (double change = cost(row, other) - cost(row, width);
              other != width && (best.to == width || change < best.cost))
            best = {change, row, other};
        out.push_back(best);
      } else if (std::find(open.begin(), open.end(), now) != open.end()) {
        in.push_back({cost(row, width) - cost(row, now), row, width});
      }
    }
    double less = keepCheapest(out, more);
    bool come = in.size() >= missing && keepCheapest(in, missing) < less;
    for (const Move &move : come ? in : out) {
      --counts[widths[move.row]];
      ++counts[move.to];
      widths[move.row] = move.to;
    }
  }

  const AllocationFamily &family;
  std::vector<uint8_t> &widths;
  double slope;
  std::vector<size_t> counts;
  std::vector<uint8_t> open; ///< widths that are not settled, the widest last
};
} // namespace

void skim::moveToTiles(std::span<const AllocationLayer> layers, size_t tile, Allocation &allocation) {
  for (size_t i = 0; i < layers.size(); ++i) {
    LayerAllocation &layer = allocation.layers[i];
    const AllocationFamily &family = layers[i].families[layer.family];
    if (!layer.mixed)
      continue;
    TileMover(family, layer.widths, allocation.slope).move(tile);
    layer.count(family);
  }
  allocation.count();
}
