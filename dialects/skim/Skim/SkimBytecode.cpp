//===- SkimBytecode.cpp - encodings in bytecode files -----------------------===//

#include "skim/Skim/SkimBytecode.h"

#include "mlir/Bytecode/BytecodeImplementation.h"
#include "skim/Skim/SkimDialect.h"
#include "skim/Skim/SkimEncodings.h"

using namespace mlir;
using namespace skim;

namespace {
struct Version : DialectVersion {
  explicit Version(uint64_t number) : number(number) {}
  uint64_t number;
};

/// The first number of an encoding in a file. Values are part of the format.
enum Code : uint64_t {
  DenseCode = 0,
  UniformCode = 1,
  CodebookCode = 2,
  BlockFloatCode = 3,
  PlanesCode = 4,
  RowsCode = 5,
  ScaledCode = 6,
  LowRankCode = 7,
  PerTokenCode = 8,
};

/// Reads numbers, types and attributes one after another; remembers a failure.
class Reader {
public:
  explicit Reader(DialectBytecodeReader &reader) : reader(reader) {}

  uint64_t number() {
    uint64_t value = 0;
    ok = ok && succeeded(reader.readVarInt(value));
    return value;
  }
  unsigned small() { return static_cast<unsigned>(std::min<uint64_t>(number(), 1u << 20)); }
  int64_t count() { return static_cast<int64_t>(std::min<uint64_t>(number(), INT64_MAX)); }
  Type type() {
    Type value;
    ok = ok && succeeded(reader.readType(value));
    return value;
  }
  Attribute attribute() {
    Attribute value;
    ok = ok && succeeded(reader.readAttribute(value));
    return value;
  }

  /// The attribute of what was read, verified; null after any failure.
  template <typename AttrT, typename... Args> Attribute make(Args... args) {
    if (!ok)
      return {};
    return AttrT::getChecked([&] { return reader.emitError(); }, reader.getContext(), args...);
  }

  bool ok = true;

private:
  DialectBytecodeReader &reader;
};

class SkimBytecode : public BytecodeDialectInterface {
public:
  SkimBytecode(Dialect *dialect) : BytecodeDialectInterface(dialect) {}

  LogicalResult writeAttribute(Attribute attr, DialectBytecodeWriter &writer) const override;
  Attribute readAttribute(DialectBytecodeReader &reader) const override;

  void writeVersion(DialectBytecodeWriter &writer) const override { writer.writeVarInt(skimBytecodeVersion); }

  std::unique_ptr<DialectVersion> readVersion(DialectBytecodeReader &reader) const override {
    uint64_t number = 0;
    if (failed(reader.readVarInt(number)))
      return nullptr;
    if (number < 1 || number > skimBytecodeVersion) {
      reader.emitError() << "expected version 1 to " << skimBytecodeVersion << " of the skim dialect, got " << number;
      return nullptr;
    }
    return std::make_unique<Version>(number);
  }
};
} // namespace

LogicalResult SkimBytecode::writeAttribute(Attribute attr, DialectBytecodeWriter &writer) const {
  return llvm::TypeSwitch<Attribute, LogicalResult>(attr)
      .Case([&](DenseAttr dense) {
        writer.writeVarInt(DenseCode);
        writer.writeType(dense.getType());
        return success();
      })
      .Case([&](UniformAttr uniform) {
        writer.writeVarInt(UniformCode);
        writer.writeVarInt(uniform.getBits());
        writer.writeVarInt(uniform.getGroup());
        // 0: symmetric, 1: asymmetric, 2: asymmetric with a float zero, whose type follows.
        writer.writeVarInt(uniform.getZeroType() ? 2 : uniform.getAsymmetric());
        if (uniform.getZeroType())
          writer.writeType(uniform.getZeroType());
        writer.writeType(uniform.getScaleType());
        return success();
      })
      .Case([&](CodebookAttr codebook) {
        writer.writeVarInt(CodebookCode);
        writer.writeVarInt(codebook.getBits());
        writer.writeType(codebook.getTable());
        writer.writeVarInt(codebook.getTensorScope());
        return success();
      })
      .Case([&](BlockFloatAttr blocks) {
        writer.writeVarInt(BlockFloatCode);
        writer.writeVarInt(blocks.getBits());
        writer.writeVarInt(blocks.getBlock());
        writer.writeVarInt(static_cast<uint64_t>(blocks.getElement()));
        return success();
      })
      .Case([&](PlanesAttr planes) {
        writer.writeVarInt(PlanesCode);
        writer.writeVarInt(planes.getBits());
        writer.writeVarInt(planes.getLevels());
        writer.writeVarInt(planes.getGroup());
        return success();
      })
      .Case([&](RowsAttr rows) {
        writer.writeVarInt(RowsCode);
        writer.writeVarInt(rows.getParts().size());
        for (auto [part, count] : llvm::zip(rows.getParts(), rows.getCounts())) {
          writer.writeAttribute(part);
          writer.writeVarInt(count);
        }
        return success();
      })
      .Case([&](ScaledAttr scaled) {
        writer.writeVarInt(ScaledCode);
        writer.writeAttribute(scaled.getInner());
        return success();
      })
      .Case([&](LowRankAttr lowRank) {
        writer.writeVarInt(LowRankCode);
        writer.writeAttribute(lowRank.getBase());
        writer.writeVarInt(lowRank.getRank());
        writer.writeAttribute(lowRank.getFactors());
        return success();
      })
      .Case([&](PerTokenAttr token) {
        writer.writeVarInt(PerTokenCode);
        writer.writeVarInt(token.getBits());
        writer.writeVarInt(token.getAsymmetric());
        return success();
      })
      .Default([](Attribute) { return failure(); });
}

Attribute SkimBytecode::readAttribute(DialectBytecodeReader &bytes) const {
  Reader reader(bytes);
  switch (uint64_t code = reader.number()) {
  case DenseCode: {
    Type type = reader.type();
    return reader.make<DenseAttr>(type);
  }
  case UniformCode: {
    unsigned bits = reader.small();
    int64_t group = reader.count();
    uint64_t zero = reader.number();
    Type zeroType = zero == 2 ? reader.type() : Type();
    Type scale = reader.type();
    return reader.make<UniformAttr>(bits, group, zero != 0, zeroType, scale);
  }
  case CodebookCode: {
    unsigned bits = reader.small();
    Type table = reader.type();
    bool tensorScope = reader.number() != 0;
    return reader.make<CodebookAttr>(bits, table, tensorScope);
  }
  case BlockFloatCode: {
    unsigned bits = reader.small();
    int64_t block = reader.count();
    uint64_t element = reader.number();
    if (element > static_cast<uint64_t>(BlockElement::E2M1)) {
      bytes.emitError() << "expected an element of block_float from 0 to 2, got " << element;
      return {};
    }
    return reader.make<BlockFloatAttr>(bits, block, static_cast<BlockElement>(element));
  }
  case PlanesCode: {
    unsigned bits = reader.small(), levels = reader.small();
    int64_t group = reader.count();
    return reader.make<PlanesAttr>(bits, levels, group);
  }
  case RowsCode: {
    SmallVector<Attribute> parts;
    SmallVector<int64_t> counts;
    for (uint64_t i = 0, size = reader.number(); i < size && reader.ok; ++i) {
      parts.push_back(reader.attribute());
      counts.push_back(reader.count());
    }
    return reader.make<RowsAttr>(ArrayRef<Attribute>(parts), ArrayRef<int64_t>(counts));
  }
  case ScaledCode: {
    Attribute inner = reader.attribute();
    return reader.make<ScaledAttr>(inner);
  }
  case LowRankCode: {
    Attribute base = reader.attribute();
    int64_t rank = reader.count();
    Attribute factors = reader.attribute();
    return reader.make<LowRankAttr>(base, rank, factors);
  }
  case PerTokenCode: {
    unsigned bits = reader.small();
    bool asymmetric = reader.number() != 0;
    return reader.make<PerTokenAttr>(bits, asymmetric);
  }
  default:
    if (reader.ok)
      bytes.emitError() << "expected an encoding of the skim dialect, got code " << code;
    return {};
  }
}

void skim::addBytecodeInterface(SkimDialect &dialect) { dialect.addInterfaces<SkimBytecode>(); }
