#include "skim/Quantize/Allocation.h"

#include <cmath>
#include <cstdio>
#include <queue>

using namespace skim;

static std::string text(double value) {
  char out[32];
  std::snprintf(out, sizeof out, "%g", value);
  return out;
}

Expected<std::vector<uint8_t>> skim::allocateRows(std::span<const double> errors, int64_t rows, double targetBits,
                                                  const RowAllocationOptions &options) {
  const unsigned least = options.minBits, most = options.maxBits;
  if (least > most || most > 255)
    return fail("widths of an allocation do not make a range", {}, "at least as many bits at most as at least",
                std::to_string(least) + " to " + std::to_string(most));
  const size_t widths = most - least + 1;
  if (rows < 0 || errors.size() != static_cast<size_t>(rows) * widths)
    return fail("errors do not fit the rows", {}, std::to_string(rows) + " x " + std::to_string(widths) + " numbers",
                std::to_string(errors.size()));
  if (!(targetBits >= least && targetBits <= most))
    return fail("target cannot be reached by mixing rows", {},
                "from " + std::to_string(least) + " to " + std::to_string(most) + " bits a weight", text(targetBits));
  for (size_t i = 0; i < errors.size(); ++i)
    if (!std::isfinite(errors[i]))
      return fail("error of a row is not finite",
                  "row " + std::to_string(i / widths) + ", " + std::to_string(least + i % widths) + " bits",
                  "a finite number", text(errors[i]));

  const auto whole = static_cast<unsigned>(std::floor(targetBits));
  const bool integer = targetBits == double(whole);
  if (integer && !options.mixAtIntegers)
    return std::vector<uint8_t>(rows, static_cast<uint8_t>(whole));
  const unsigned start = options.startAtFloor && !integer ? whole : least;
  std::vector<uint8_t> bits(rows, static_cast<uint8_t>(start));
  // A target such as 3.2 has no exact double: a millionth of a bit is not a bit.
  int64_t left = static_cast<int64_t>(std::floor(double(rows) * (targetBits - start) + 1e-6));

  struct Step {
    double gain;
    int64_t row;
    bool operator<(const Step &other) const { return gain != other.gain ? gain < other.gain : row > other.row; }
  };
  std::priority_queue<Step> heap;
  auto push = [&](int64_t row) {
    const double *error = errors.data() + row * widths + (bits[row] - least);
    if (bits[row] < most)
      heap.push({error[0] - error[1], row});
  };
  for (int64_t row = 0; row < rows; ++row)
    push(row);
  for (; left > 0 && !heap.empty(); --left) {
    int64_t row = heap.top().row;
    heap.pop();
    ++bits[row];
    push(row);
  }
  return bits;
}
