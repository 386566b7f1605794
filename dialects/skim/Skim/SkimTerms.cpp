//===- SkimTerms.cpp - short names of formats -------------------------------===//

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/IR/MLIRContext.h"
#include "skim/Skim/SkimDialect.h"
#include "skim/Skim/SkimEncodings.h"

using namespace mlir;
using namespace skim;

namespace {
/// A cursor over a short name.
struct Cursor {
  StringRef rest;
  bool eat(StringRef prefix) { return rest.consume_front(prefix); }
  bool number(int64_t &value) {
    StringRef digits = rest.take_while([](char c) { return c >= '0' && c <= '9'; });
    if (digits.empty() || digits.size() > 6 || digits.getAsInteger(10, value))
      return false;
    rest = rest.drop_front(digits.size());
    return true;
  }
};
} // namespace

static WeightEncoding parseLeaf(Cursor &cursor, MLIRContext *context, llvm::function_ref<InFlightDiagnostic()> emit) {
  Type f16 = Float16Type::get(context);
  int64_t bits = 0, group = 0;
  if (cursor.eat("f16"))
    return DenseAttr::getChecked(emit, context, f16);
  if (cursor.eat("f32"))
    return DenseAttr::getChecked(emit, context, Type(Float32Type::get(context)));
  if (cursor.eat("bf16"))
    return DenseAttr::getChecked(emit, context, Type(BFloat16Type::get(context)));
  if (cursor.eat("mx")) {
    if (!cursor.number(bits))
      return {};
    return BlockFloatAttr::getChecked(emit, context, unsigned(bits), int64_t(16), BlockElement::Int);
  }
  if (cursor.eat("w")) {
    if (!cursor.number(bits) || (cursor.eat("g") && !cursor.number(group)))
      return {};
    bool asymmetric = cursor.eat("a");
    return UniformAttr::getChecked(emit, context, unsigned(bits), group, asymmetric, Type(), f16);
  }
  if (cursor.eat("k")) {
    if (!cursor.number(bits))
      return {};
    Type table = cursor.eat("i") ? Type(IntegerType::get(context, 8)) : f16;
    return CodebookAttr::getChecked(emit, context, unsigned(bits), table, false);
  }
  if (cursor.eat("p")) {
    if (!cursor.number(bits) || bits > 8)
      return {};
    return PlanesAttr::getChecked(emit, context, unsigned(bits), (1u << bits) + (cursor.eat("b") ? 1 : 0), int64_t(0));
  }
  return {};
}

WeightEncoding skim::parseTerm(StringRef text, MLIRContext *context, std::string &activations, std::string &error) {
  activations.clear();
  error.clear();
  context->getOrLoadDialect<SkimDialect>();
  // Diagnostics of the attributes' verifiers become the error text.
  ScopedDiagnosticHandler handler(context, [&](Diagnostic &diagnostic) {
    if (error.empty())
      error = diagnostic.str();
    return success();
  });
  auto report = [&] { return emitError(UnknownLoc::get(context)); };
  llvm::function_ref<InFlightDiagnostic()> emit = report;

  if (text.starts_with("#")) {
    Attribute attr = parseAttribute(text, context);
    auto encoding = dyn_cast_or_null<WeightEncoding>(attr);
    if (!encoding && error.empty())
      error = "expected a weight encoding, got " + text.str();
    return encoding;
  }

  Cursor cursor{text};
  WeightEncoding encoding = parseLeaf(cursor, context, emit);
  int64_t rank = 0, bits = 0;
  if (encoding && cursor.eat("+r")) {
    if (!cursor.number(rank)) {
      encoding = {};
    } else {
      auto factors = BlockFloatAttr::get(context, 8, 16, BlockElement::Int);
      encoding = dyn_cast_or_null<WeightEncoding>(
          LowRankAttr::getChecked(emit, context, Attribute(encoding), rank, Attribute(factors)));
    }
  }
  if (encoding && cursor.eat("-a")) {
    if (!cursor.number(bits) || bits < 2 || bits > 8)
      encoding = {};
    else
      activations = "a" + std::to_string(bits);
  }
  if (!encoding || !cursor.rest.empty()) {
    if (error.empty())
      error = "expected a format such as w4g128, w3g32a, k3, k3i, mx4, p2b, k3i+r32, w4g128-a8 or #skim.…, got '" +
              text.str() + "'";
    return {};
  }
  return encoding;
}
