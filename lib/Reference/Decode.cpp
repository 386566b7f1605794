//===- Decode.cpp - the value of an encoded weight, slowly ------------------===//
//
// One function a term, each the equation of its ODS description. Nothing here is
// shared with quantizers or kernels.
//
//===----------------------------------------------------------------------===//

#include "skim/Reference/Decode.h"

#include "skim/Support/Float16.h"
#include "llvm/ADT/TypeSwitch.h"

#include <cmath>
#include <cstring>

using namespace mlir;
using namespace skim;

namespace {
using Matrix = std::vector<double>;
using Bytes = llvm::ArrayRef<uint8_t>;

/// The components of a term, taken one after another.
class ComponentReader {
public:
  ComponentReader(llvm::ArrayRef<Bytes> components) : rest(components) {}
  Bytes next() {
    Bytes first = rest.front();
    rest = rest.drop_front();
    return first;
  }

private:
  llvm::ArrayRef<Bytes> rest;
};
} // namespace

/// `bits` (at most 8) bits from bit `bit` of a row that begins at `row`; the
/// lowest bit of a byte comes first.
static unsigned readBits(const uint8_t *row, int64_t bit, unsigned bits) {
  unsigned value = 0;
  for (unsigned i = 0; i < bits; ++i, ++bit)
    value |= ((row[bit / 8] >> (bit % 8)) & 1u) << i;
  return value;
}

/// Element `i` of floats stored as `type`.
static double readFloat(Bytes bytes, Type type, int64_t i) {
  if (type.isF32()) {
    float value;
    std::memcpy(&value, bytes.data() + 4 * i, 4);
    return value;
  }
  uint16_t half;
  std::memcpy(&half, bytes.data() + 2 * i, 2);
  return type.isBF16() ? bf16ToF32(half) : f16ToF32(half);
}
static double readHalf(Bytes bytes, int64_t i) {
  uint16_t half;
  std::memcpy(&half, bytes.data() + 2 * i, 2);
  return f16ToF32(half);
}

static int64_t rowBytes(int64_t codes, unsigned bits) { return (codes * bits + 7) / 8; }

static Matrix decodeTerm(Attribute term, int64_t n, int64_t k, ComponentReader &reader);

static Matrix decodeDense(DenseAttr term, int64_t n, int64_t k, ComponentReader &reader) {
  Bytes data = reader.next();
  Matrix w(n * k);
  for (int64_t i = 0; i < n * k; ++i)
    w[i] = readFloat(data, term.getType(), i);
  return w;
}

static Matrix decodeUniform(UniformAttr term, int64_t n, int64_t k, ComponentReader &reader) {
  unsigned bits = term.getBits();
  int64_t group = term.getGroup() ? term.getGroup() : k;
  int64_t groups = (k + group - 1) / group;
  Bytes codes = reader.next(), scales = reader.next(), zeros = term.getAsymmetric() ? reader.next() : Bytes();
  Matrix w(n * k);
  for (int64_t row = 0; row < n; ++row)
    for (int64_t column = 0; column < k; ++column) {
      int64_t g = column / group;
      double scale = readFloat(scales, term.getScaleType(), row * groups + g);
      double q = readBits(codes.data() + row * rowBytes(k, bits), column * bits, bits);
      double zero = 1u << (bits - 1); // symmetric codes are stored offset by 2^(bits-1)
      if (term.getZeroType())
        zero = readFloat(zeros, term.getZeroType(), row * groups + g);
      else if (term.getAsymmetric())
        zero = readBits(zeros.data() + row * rowBytes(groups, bits), g * bits, bits);
      w[row * k + column] = scale * (q - zero);
    }
  return w;
}

static Matrix decodeCodebook(CodebookAttr term, int64_t n, int64_t k, ComponentReader &reader) {
  unsigned bits = term.getBits();
  Bytes codes = reader.next(), table = reader.next();
  Bytes tableScale = term.getTable().isInteger(8) ? reader.next() : Bytes();
  Matrix w(n * k);
  for (int64_t row = 0; row < n; ++row)
    for (int64_t column = 0; column < k; ++column) {
      int64_t book = term.getTensorScope() ? 0 : row;
      int64_t entry = (book << bits) + readBits(codes.data() + row * rowBytes(k, bits), column * bits, bits);
      w[row * k + column] = term.getTable().isInteger(8)
                                ? readHalf(tableScale, book) * static_cast<int8_t>(table[entry])
                                : readFloat(table, term.getTable(), entry);
    }
  return w;
}

static Matrix decodeBlockFloat(BlockFloatAttr term, int64_t n, int64_t k, ComponentReader &reader) {
  static const double e2m1[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  unsigned bits = term.getBits();
  int64_t blocks = (k + term.getBlock() - 1) / term.getBlock();
  Bytes codes = reader.next(), exponents = reader.next();
  Matrix w(n * k);
  for (int64_t row = 0; row < n; ++row)
    for (int64_t column = 0; column < k; ++column) {
      unsigned code = readBits(codes.data() + row * rowBytes(k, bits), column * bits, bits);
      unsigned half = 1u << (bits - 1);
      unsigned stored = exponents[row * blocks + column / term.getBlock()];
      int exponent = static_cast<int>(stored) - 127;
      double sign = code & half ? -1.0 : 1.0, value = 0;
      switch (term.getElement()) {
      case BlockElement::Int: // sign and magnitude; LQER's 2^(e−w+1)
        value = sign * std::ldexp(code & (half - 1), exponent - static_cast<int>(bits) + 1);
        break;
      case BlockElement::OcpInt: // two's complement with bits − 2 fraction bits
        value =
            std::ldexp(static_cast<double>(code & (half - 1)) - (code & half), exponent - static_cast<int>(bits) + 2);
        break;
      case BlockElement::E2M1:
        value = sign * std::ldexp(e2m1[code & 7], exponent);
        break;
      }
      if (term.getElement() != BlockElement::Int && stored == 255) // E8M0's NaN
        value = std::nan("");
      w[row * k + column] = value;
    }
  return w;
}

static Matrix decodePlanes(PlanesAttr term, int64_t n, int64_t k, ComponentReader &reader) {
  int64_t group = term.getGroup() ? term.getGroup() : k;
  int64_t groups = (k + group - 1) / group;
  Bytes codes = reader.next(), scales = reader.next(), zeros = reader.next();
  int64_t stride = static_cast<int64_t>(codes.size()) / n;
  unsigned planes = term.getLevels() > 1u << term.getBits() ? term.getBits() + 1 : term.getBits();
  Matrix w(n * k);
  for (int64_t row = 0; row < n; ++row)
    for (int64_t column = 0; column < k; ++column) {
      const uint8_t *bytes = codes.data() + row * stride;
      unsigned q = 0;
      if (term.getLevels() == 5) {
        static const unsigned power[3] = {1, 5, 25};
        q = readBits(bytes, column / 3 * 7, 7) / power[column % 3] % 5;
      } else {
        for (unsigned plane = 0; plane < planes; ++plane)
          q |= readBits(bytes + plane * rowBytes(k, 1), column, 1) << plane;
      }
      int64_t g = row * groups + column / group;
      w[row * k + column] = readHalf(scales, g) * (static_cast<double>(q) - zeros[g]);
    }
  return w;
}

static Matrix decodeRows(RowsAttr term, int64_t n, int64_t k, ComponentReader &reader) {
  Matrix stored;
  for (auto [part, count] : llvm::zip(term.getParts(), term.getCounts()))
    llvm::append_range(stored, decodeTerm(part, count, k, reader));
  Bytes permutation = reader.next();
  Matrix w(n * k);
  std::vector<bool> seen(n);
  for (int64_t i = 0; i < n; ++i) {
    uint64_t row = 0;
    if (n > 65536) {
      uint32_t value;
      std::memcpy(&value, permutation.data() + 4 * i, 4);
      row = value;
    } else {
      uint16_t value;
      std::memcpy(&value, permutation.data() + 2 * i, 2);
      row = value;
    }
    if (row >= static_cast<uint64_t>(n) || seen[row])
      return {};
    seen[row] = true;
    std::copy_n(stored.begin() + i * k, k, w.begin() + static_cast<int64_t>(row) * k);
  }
  return w;
}

static Matrix decodeScaled(ScaledAttr term, int64_t n, int64_t k, ComponentReader &reader) {
  Matrix w = decodeTerm(term.getInner(), n, k, reader);
  Bytes alpha = reader.next();
  for (size_t i = 0; i < w.size(); ++i)
    w[i] *= readHalf(alpha, static_cast<int64_t>(i) % k);
  return w;
}

static Matrix decodeLowRank(LowRankAttr term, int64_t n, int64_t k, ComponentReader &reader) {
  int64_t rank = term.getRank();
  Matrix w = decodeTerm(term.getBase(), n, k, reader);
  Matrix a = decodeTerm(term.getFactors(), rank, k, reader);
  Matrix b = decodeTerm(term.getFactors(), n, rank, reader);
  if (w.empty() || a.empty() || b.empty())
    return {};
  for (int64_t row = 0; row < n; ++row)
    for (int64_t r = 0; r < rank; ++r)
      for (int64_t column = 0; column < k; ++column)
        w[row * k + column] += b[row * rank + r] * a[r * k + column];
  return w;
}

static Matrix decodeTerm(Attribute term, int64_t n, int64_t k, ComponentReader &reader) {
  return llvm::TypeSwitch<Attribute, Matrix>(term)
      .Case([&](DenseAttr attr) { return decodeDense(attr, n, k, reader); })
      .Case([&](UniformAttr attr) { return decodeUniform(attr, n, k, reader); })
      .Case([&](CodebookAttr attr) { return decodeCodebook(attr, n, k, reader); })
      .Case([&](BlockFloatAttr attr) { return decodeBlockFloat(attr, n, k, reader); })
      .Case([&](PlanesAttr attr) { return decodePlanes(attr, n, k, reader); })
      .Case([&](RowsAttr attr) { return decodeRows(attr, n, k, reader); })
      .Case([&](ScaledAttr attr) { return decodeScaled(attr, n, k, reader); })
      .Case([&](LowRankAttr attr) { return decodeLowRank(attr, n, k, reader); })
      .Default([](Attribute) { return Matrix(); });
}

std::vector<float> skim::decodeWeight(WeightEncoding term, llvm::ArrayRef<int64_t> shape,
                                      llvm::ArrayRef<llvm::ArrayRef<uint8_t>> components) {
  if (!term || shape.size() != 2 || shape[0] < 1 || shape[1] < 1)
    return {};
  // Every size is checked here, so that the functions above need not.
  SmallVector<Component> expected = getComponents(term, shape);
  if (expected.size() != components.size())
    return {};
  for (auto [component, bytes] : llvm::zip(expected, components))
    if (component.getBits() != 8 * static_cast<uint64_t>(bytes.size()))
      return {};
  ComponentReader reader(components);
  Matrix w = decodeTerm(term, shape[0], shape[1], reader);
  return std::vector<float>(w.begin(), w.end());
}
