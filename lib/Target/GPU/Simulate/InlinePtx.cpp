//===- InlinePtx.cpp - assembly texts that the simulator knows --------------===//

#include "Simulate.h"

#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "llvm/Support/Regex.h"

using namespace skim;
using namespace skim::simulate;

/// wgmma on sums $0 …, which are $columns/2 … as well, then four words of A, a descriptor and, with `first`, a word.
static std::string wgmmaText(unsigned columns, llvm::StringRef type, bool first) {
  unsigned count = columns / 2, next = 2 * count;
  auto list = [](unsigned from, unsigned to) {
    std::string text = "{";
    for (unsigned i = from; i < to; ++i)
      text += (i == from ? "$" : ", $") + std::to_string(i);
    return text + "}";
  };
  std::string text = "wgmma.mma_async.sync.aligned.m64n" + std::to_string(columns) + "k16.f32." + type.str() + "." +
                     type.str() + " " + list(0, count) + ", " + list(next, next + 4) + ", $" +
                     std::to_string(next + 4) + (first ? ", add, 1, 1, 0;" : ", 1, 1, 1, 0;");
  if (first)
    text = "{ .reg .pred add; setp.eq.b32 add, $" + std::to_string(next + 5) + ", 0; " + text + " }";
  return text;
}

static std::optional<InlinePtx> parseWarpgroup(llvm::StringRef text) {
  llvm::SmallVector<llvm::StringRef> parts;
  InlinePtx result;
  if (text == "wgmma.fence.sync.aligned;") {
    result.kind = InlinePtx::WgmmaFence;
    return result;
  }
  static const llvm::Regex wait("^wgmma\\.wait_group\\.sync\\.aligned ([0-7]);$");
  if (wait.match(text, &parts)) {
    result.kind = InlinePtx::WgmmaWait;
    if (parts[1].getAsInteger(10, result.immediate))
      return std::nullopt;
    return result;
  }
  static const llvm::Regex name("wgmma\\.mma_async\\.sync\\.aligned\\.m64n([0-9]+)k16\\.f32\\.(f16|bf16)\\.");
  if (!name.match(text, &parts))
    return std::nullopt;
  result.kind = InlinePtx::Wgmma;
  result.bf16 = parts[2] == "bf16";
  result.first = text.starts_with("{");
  if (parts[1].getAsInteger(10, result.elements) || result.elements % 8 || result.elements < 8 ||
      result.elements > 256 || text != wgmmaText(result.elements, parts[2], result.first))
    return std::nullopt;
  return result;
}

std::optional<InlinePtx> simulate::inlinePtxOf(mlir::Operation *op) {
  if (auto text = mlir::dyn_cast<mlir::LLVM::InlineAsmOp>(op))
    return parseInlinePtx(text.getAsmString());
  if (auto text = mlir::dyn_cast<mlir::NVVM::InlinePtxOp>(op))
    return parseInlinePtx(text.getPtxCode());
  return std::nullopt;
}

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
  if (text == "shr.u32 $0, $1, 4;") {
    result.kind = InlinePtx::MatrixAddress;
    return result;
  }
  return parseWarpgroup(text);
}
