#include "skim/Target/Common/ModelValues.h"

#include "skim/Skim/SkimOps.h"

#include "mlir/IR/OpDefinition.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/bit.h"

using namespace mlir;
using namespace skim;

std::string skim::spell(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return text;
}

std::string skim::spellNumber(double value) { return llvm::utohexstr(llvm::bit_cast<uint64_t>(value)); }

static std::string spellPlace(Location loc) {
  if (auto name = dyn_cast<NameLoc>(loc))
    return name.getName().str();
  if (auto file = loc->findInstanceOf<FileLineColLoc>())
    return file.getFilename().str() + ":" + std::to_string(file.getLine());
  return "the model function";
}

Failure skim::failAt(Operation *op, std::string what, std::string expected, std::string got) {
  return fail(std::move(what), spellPlace(op->getLoc()), std::move(expected), std::move(got));
}

Value skim::behindConversions(Value value) {
  while (auto convert = value.getDefiningOp<ConvertOp>()) {
    auto from = cast<RankedTensorType>(convert.getInput().getType());
    if (from.getEncoding() && !isa<DenseAttr>(from.getEncoding()))
      break;
    value = convert.getInput();
  }
  return value;
}

bool skim::isConstantTensor(Value value) {
  Operation *op = value.getDefiningOp();
  return op && (isa<ExternalOp>(op) || op->hasTrait<OpTrait::ConstantLike>()) &&
         cast<RankedTensorType>(value.getType()).hasStaticShape();
}

std::string skim::externalName(Value value) {
  auto external = value.getDefiningOp<ExternalOp>();
  return external ? external.getName().value_or("").str() : "";
}
