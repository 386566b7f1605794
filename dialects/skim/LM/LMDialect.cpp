#include "mlir/Bytecode/BytecodeImplementation.h"
#include "skim/LM/LMOps.h"

#include "skim/LM/LMDialect.cpp.inc"

using namespace mlir;

namespace {
/// The version that bytecode files carry. A change of an operation's form raises
/// it, and the reader goes on reading every older one.
constexpr uint64_t bytecodeVersion = 1;

struct Version : DialectVersion {};

class LMBytecode : public BytecodeDialectInterface {
public:
  LMBytecode(Dialect *dialect) : BytecodeDialectInterface(dialect) {}

  void writeVersion(DialectBytecodeWriter &writer) const override { writer.writeVarInt(bytecodeVersion); }

  std::unique_ptr<DialectVersion> readVersion(DialectBytecodeReader &reader) const override {
    uint64_t number = 0;
    if (failed(reader.readVarInt(number)))
      return nullptr;
    if (number < 1 || number > bytecodeVersion) {
      reader.emitError() << "expected version 1 to " << bytecodeVersion << " of the lm dialect, got " << number;
      return nullptr;
    }
    return std::make_unique<Version>();
  }
};
} // namespace

void skim::lm::LMDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "skim/LM/LMOps.cpp.inc"
      >();
  addInterfaces<LMBytecode>();
}
