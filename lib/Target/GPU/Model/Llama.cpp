//===- Llama.cpp - a model of given shape, without weights -------------------===//

#include "skim/Skim/SkimDialect.h"
#include "skim/Target/GPU/LaunchModel.h"

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Parser/Parser.h"
#include "skim/LM/LMOps.h"

#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

namespace {
/// Writes the function as text; values are numbered.
class Writer {
public:
  Writer(MLIRContext &context, const LlamaShape &shape, WeightEncoding term, WeightEncoding head)
      : context(context), shape(shape), term(term), head(head), stream(text) {}

  std::string run() {
    int64_t size = shape.hidden / shape.heads;
    std::string cache = "tensor<?x" + std::to_string(shape.cacheHeads) + "x?x" + std::to_string(size) + "xf32>";
    std::string hidden = rows(shape.hidden);
    stream << "func.func @forward(%tokens: tensor<?x?xi32>, %start: tensor<?xi32>, %count: tensor<?xi32>, "
              "%rows: tensor<?xi32>";
    for (int64_t layer = 0; layer < shape.layers; ++layer)
      stream << ", %k" << layer << ": " << cache << " {skim.cache}, %v" << layer << ": " << cache << " {skim.cache}";
    std::string results = "tensor<?x" + std::to_string(shape.vocabulary) + "xf32>";
    for (int64_t i = 0; i < 2 * shape.layers; ++i)
      results += ", " + cache;
    stream << ") -> (" << results << ") {\n";
    std::string tableType = "tensor<" + std::to_string(shape.vocabulary) + "x" + std::to_string(shape.hidden) + "xf16>";
    std::string table = external(tableType);
    std::string h = value("skim.embed %tokens, " + table + " : tensor<?x?xi32>, " + tableType + " -> " + hidden);
    std::string positions = value("lm.positions %tokens, %start : tensor<?x?xi32>, tensor<?xi32>");
    std::string half = std::to_string(size / 2), angle = "tensor<?x?x" + half + "xf32>";
    std::string frequencies = value("arith.constant dense<0.5> : tensor<" + half + "xf32>");
    stream << "  %cos, %sin = lm.rotary_table " << positions << ", " << frequencies << " : tensor<?x?xi32>, tensor<"
           << half << "xf32> -> " << angle << "\n";
    std::string heads = std::to_string(shape.heads), keys = rows(shape.cacheHeads * size);
    std::string returned;
    for (int64_t layer = 0; layer < shape.layers; ++layer) {
      std::string k = "%k" + std::to_string(layer), v = "%v" + std::to_string(layer);
      std::string name = "model.layers." + std::to_string(layer);
      std::string x = norm(h, hidden);
      std::string q = linear(x, shape.hidden, shape.hidden, name + ".self_attn.q_proj", term);
      std::string newK = linear(x, shape.hidden, shape.cacheHeads * size, name + ".self_attn.k_proj", term);
      std::string newV = linear(x, shape.hidden, shape.cacheHeads * size, name + ".self_attn.v_proj", term);
      auto rotate = [&](const std::string &of, const std::string &count, const std::string &type) {
        return value("lm.rotary " + of + ", %cos, %sin {heads = " + count + " : i64} : " + type + ", " + angle);
      };
      q = rotate(q, heads, hidden);
      newK = rotate(newK, std::to_string(shape.cacheHeads), keys);
      auto append = [&](const std::string &of, const std::string &to) {
        return value("lm.cache_append " + of + ", " + to + ", %start, %count : " + keys + ", " + cache +
                     ", tensor<?xi32>");
      };
      k = append(newK, k);
      v = append(newV, v);
      returned += ", " + k + ", " + v;
      std::string y =
          value("lm.attention " + q + ", " + k + ", " + v + ", %start {heads = " + heads +
                " : i64, scale = 0.088388 : f32} : " + hidden + ", " + cache + ", tensor<?xi32> -> " + hidden);
      y = linear(y, shape.hidden, shape.hidden, name + ".self_attn.o_proj", term);
      h = value("arith.addf " + h + ", " + y + " : " + hidden);
      x = norm(h, hidden);
      std::string gate = linear(x, shape.hidden, shape.feedForward, name + ".mlp.gate_proj", term);
      std::string up = linear(x, shape.hidden, shape.feedForward, name + ".mlp.up_proj", term);
      std::string wide = rows(shape.feedForward);
      gate = value("lm.silu " + gate + " : " + wide);
      up = value("arith.mulf " + gate + ", " + up + " : " + wide);
      y = linear(up, shape.feedForward, shape.hidden, name + ".mlp.down_proj", term);
      h = value("arith.addf " + h + ", " + y + " : " + hidden);
    }
    std::string flat = "tensor<?x" + std::to_string(shape.hidden) + "xf32>";
    h = value("lm.gather_rows " + h + ", %rows : " + hidden + ", tensor<?xi32> -> " + flat);
    h = norm(h, flat);
    std::string logits = linear(h, shape.hidden, shape.vocabulary, "lm_head", head, "tensor<?x");
    stream << "  return " << logits << returned << " : " << results << "\n}\n";
    return stream.str();
  }

private:
  MLIRContext &context;
  const LlamaShape &shape;
  WeightEncoding term, head;
  std::string text, lastType;
  llvm::raw_string_ostream stream;
  int64_t next = 0, offset = 0;

  static std::string rows(int64_t channels) { return "tensor<?x?x" + std::to_string(channels) + "xf32>"; }
  std::string value(const std::string &operation) {
    std::string name = "%t" + std::to_string(next++);
    stream << "  " << name << " = " << operation << "\n";
    return name;
  }
  std::string external(const std::string &type) {
    lastType = type;
    std::string name = value("skim.external \"weights.bin\" offset = " + std::to_string(offset) + " name = \"w" +
                             std::to_string(next) + "\" : " + type);
    auto shaped = cast<RankedTensorType>(parseType(type, &context));
    offset += shaped.getNumElements() * shaped.getElementTypeBitWidth() / 8;
    return name;
  }
  std::string norm(const std::string &x, const std::string &type) {
    std::string weight = external("tensor<" + std::to_string(shape.hidden) + "xf32>");
    return value("lm.rms_norm " + x + ", " + weight + " {epsilon = 1.0e-5 : f32} : " + type + ", " + lastType);
  }
  std::string linear(const std::string &x, int64_t k, int64_t n, const std::string &layer, WeightEncoding encoding,
                     const std::string &leading = "tensor<?x?x") {
    std::string operands, types, type;
    llvm::raw_string_ostream(type) << RankedTensorType::get({n, k}, Float16Type::get(&context), encoding);
    for (const Component &component : getComponents(encoding, {n, k})) {
      std::string spelled;
      llvm::raw_string_ostream(spelled) << component.type;
      operands += (operands.empty() ? "" : ", ") + external(spelled);
      types += (types.empty() ? "" : ", ") + spelled;
    }
    std::string weight = value("skim.assemble " + operands + " : " + types + " to " + type);
    return value("skim.linear " + x + ", " + weight + " {layer = \"" + layer + "\"} : " + leading + std::to_string(k) +
                 "xf32>, " + type + " -> " + leading + std::to_string(n) + "xf32>");
  }
};
} // namespace

Expected<OwningOpRef<ModuleOp>> device::llamaModel(MLIRContext &context, const LlamaShape &shape) {
  context.loadDialect<func::FuncDialect, arith::ArithDialect, SkimDialect, lm::LMDialect>();
  for (int64_t figure :
       {shape.hidden, shape.feedForward, shape.layers, shape.vocabulary, shape.heads, shape.cacheHeads})
    if (figure < 1 || figure > 1 << 20)
      return fail("invalid shape of a model", "", "numbers from 1 to 1048576", std::to_string(figure));
  if (shape.hidden % (2 * shape.heads) || shape.heads % shape.cacheHeads)
    return fail("invalid shape of a model", "", "heads that divide the width, and cache heads that divide the heads",
                std::to_string(shape.hidden) + ", " + std::to_string(shape.heads) + ", " +
                    std::to_string(shape.cacheHeads));
  SmallVector<WeightEncoding> terms;
  for (const std::string &format : {shape.format, shape.head}) {
    std::string activations, message;
    terms.push_back(parseTerm(format, &context, activations, message));
    if (!terms.back())
      return fail("invalid format", "", "a term such as w4g128, k3 or #skim....", format, message);
  }
  std::string text = Writer(context, shape, terms[0], terms[1]).run();
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(text, &context);
  if (!module)
    return fail("invalid shape of a model", "", "a model that verifies", "none");
  return std::move(module);
}
