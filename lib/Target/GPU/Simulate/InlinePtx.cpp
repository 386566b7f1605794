//===- InlinePtx.cpp - assembly texts that the simulator knows --------------===//

#include "Simulate.h"

#include "llvm/Support/Regex.h"

using namespace skim;
using namespace skim::simulate;

std::optional<InlinePtx> simulate::parseInlinePtx(llvm::StringRef text) {
  text = text.trim();
  llvm::SmallVector<llvm::StringRef> parts;
  InlinePtx result;
  static const llvm::Regex load("^ld\\.global((\\.[A-Za-z_][A-Za-z0-9_:]*)*)\\.[busf](8|16|32|64)[ \t]+"
                                "(\\{[$0-9, ]+\\}|\\$0)[ \t]*,[ \t]*\\[\\$[0-9]+([ ]*\\+[ ]*([0-9]+))?\\][ ]*;?$");
  if (load.match(text, &parts)) {
    result.kind = InlinePtx::Load;
    if (parts[3].getAsInteger(10, result.bits))
      return std::nullopt;
    llvm::SmallVector<llvm::StringRef> modifiers;
    parts[1].split(modifiers, '.', -1, /*KeepEmpty=*/false);
    for (llvm::StringRef modifier : modifiers) {
      unsigned elements;
      if (modifier.starts_with("v") && !modifier.drop_front().getAsInteger(10, elements))
        result.elements = elements;
      else if (modifier == "volatile" || modifier == "acquire")
        return std::nullopt;
    }
    if (parts[4].count('$') != result.elements)
      return std::nullopt;
    if (!parts[6].empty() && parts[6].getAsInteger(10, result.immediate))
      return std::nullopt;
    return result;
  }
  static const llvm::Regex lop3(
      "^lop3\\.b32[ \t]+\\$0[ ]*,[ ]*\\$1[ ]*,[ ]*\\$2[ ]*,[ ]*\\$3[ ]*,[ ]*(0[xX][0-9a-fA-F]+|[0-9]+)[ ]*;?$");
  if (lop3.match(text, &parts)) {
    result.kind = InlinePtx::Lop3;
    if (parts[1].getAsInteger(0, result.immediate) || result.immediate > 255)
      return std::nullopt;
    return result;
  }
  static const llvm::Regex unary(
      "^(ex2\\.approx\\.ftz|ex2\\.approx|tanh\\.approx)\\.f32[ \t]+\\$0[ ]*,[ ]*\\$1[ ]*;?$");
  if (unary.match(text, &parts)) {
    result.kind = parts[1].starts_with("tanh") ? InlinePtx::Tanh : InlinePtx::Exp2;
    return result;
  }
  return std::nullopt;
}
