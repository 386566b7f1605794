//===- PtxParse.cpp - the text of kernels -----------------------------------===//

#include "Ptx.h"

#include "llvm/ADT/BitVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSwitch.h"

using namespace skim;
using namespace skim::device;
using llvm::BitVector;
using llvm::enumerate;
using llvm::is_contained;
using llvm::isAlpha;
using llvm::isDigit;
using llvm::isSpace;
using llvm::none_of;
using llvm::SmallVector;
using llvm::SmallVectorImpl;
using llvm::StringMap;
using llvm::StringRef;
using llvm::StringSwitch;

namespace {
class Parser {
public:
  explicit Parser(StringRef text) : text(text) {}

  Expected<std::vector<PtxKernel>> run() {
    std::vector<PtxKernel> kernels;
    while (true) {
      size_t entry = text.find(".entry ");
      if (entry == StringRef::npos)
        return std::move(kernels);
      text = text.drop_front(entry + strlen(".entry "));
      size_t open = text.find('('), close = text.find(')'), body = text.find("\n{"), end = text.find("\n}");
      if (open == StringRef::npos || close < open || body == StringRef::npos || end < body)
        return fail("unreadable PTX", text.take_until([](char c) { return c == '\n'; }).str(), "an entry");
      kernel = PtxKernel();
      kernel.name = text.take_front(open).trim().str();
      registers.clear();
      parameters.clear();
      labels.clear();
      definitions.clear();
      pending.clear();
      SmallVector<StringRef> lines;
      text.slice(open + 1, close).split(lines, ',', -1, false);
      for (auto [number, line] : enumerate(lines))
        parameters[line.rsplit(' ').second.trim()] = static_cast<int>(number);
      if (!parseBody(text.slice(body + 2, end)))
        return fail("unreadable PTX", kernel.name, "instructions as LLVM writes them", wrong);
      kernels.push_back(std::move(kernel));
      text = text.drop_front(end);
    }
  }

private:
  StringRef text;
  PtxKernel kernel;
  StringMap<int> registers, parameters, labels;
  StringMap<std::string> definitions; // instruction that wrote a register last
  SmallVector<std::pair<size_t, std::string>> pending;
  std::string wrong;

  bool parseBody(StringRef body) {
    std::string clean;
    SmallVector<StringRef> lines;
    body.split(lines, '\n');
    for (StringRef line : lines)
      clean += line.split("//").first.str() + "\n";
    StringRef rest = clean;
    while (!(rest = rest.ltrim()).empty()) {
      if (rest.starts_with("$")) {
        auto [label, after] = rest.split(':');
        labels[label] = static_cast<int>(kernel.instructions.size());
        rest = after;
        continue;
      }
      auto [statement, after] = rest.split(';');
      rest = after;
      // Of a block in assembly, the declarations are nobody's business, and its registers hide none of LLVM's.
      statement = statement.trim();
      if (statement.consume_front("{"))
        statement = statement.ltrim();
      if (statement.consume_front("}"))
        statement = statement.ltrim();
      if (!statement.starts_with(".") && !statement.empty() && !parseInstruction(statement))
        return false;
    }
    for (auto [index, label] : pending) {
      auto found = labels.find(label);
      if (found == labels.end())
        return false;
      kernel.instructions[index].operands.back().index = found->second;
    }
    for (const auto &label : labels)
      if (static_cast<size_t>(label.second) < kernel.instructions.size())
        kernel.instructions[label.second].leader = true;
    markLoops();
    return true;
  }

  /// Innermost loops that load weights: from a label to the branch back.
  void markLoops() {
    auto &code = kernel.instructions;
    std::vector<std::pair<size_t, size_t>> loops;
    for (auto [index, label] : pending)
      if (size_t target = static_cast<size_t>(code[index].operands.back().index); target <= index)
        if (std::any_of(code.begin() + static_cast<ptrdiff_t>(target), code.begin() + static_cast<ptrdiff_t>(index),
                        [](const PtxInstruction &i) { return i.weights; }))
          loops.push_back({target, index + 1});
    for (const auto &loop : loops)
      if (none_of(loops, [&](const auto &other) {
            return other != loop && other.first >= loop.first && other.second <= loop.second;
          }))
        for (size_t i = loop.first; i < loop.second; ++i)
          code[i].inLoop = true;
    for (const PtxInstruction &instruction : code) {
      (instruction.inLoop ? kernel.loops : kernel.rest) += instruction.cost;
      kernel.loopLoads += instruction.inLoop && instruction.weights;
      kernel.streams |= instruction.weights;
    }
  }

  int registerNumber(StringRef name) {
    auto [at, fresh] = registers.try_emplace(name, static_cast<int>(kernel.width.size()));
    if (fresh) {
      int width = StringSwitch<int>(name.take_while([](char c) { return !isDigit(c); }))
                      .Case("%p", 0)
                      .Cases({"%rd", "%fd"}, 2)
                      .Case("%rq", 4)
                      .Default(1);
      kernel.width.push_back(width);
    }
    return at->second;
  }

  static int specialRegister(StringRef name) {
    auto [base, axis] = name.split('.');
    int offset = axis == "y" ? 1 : axis == "z" ? 2 : 0;
    int first = StringSwitch<int>(base)
                    .Case("%tid", kTid)
                    .Case("%ctaid", kCtaid)
                    .Case("%ntid", kNtid)
                    .Case("%nctaid", kNctaid)
                    .Case("%laneid", kLane)
                    .Default(kOther);
    return first < kLane ? first + offset : first;
  }

  static bool isRegister(StringRef token) {
    token = token.drop_front();
    return token.drop_while([](char c) { return isAlpha(c); }).find_first_not_of("0123456789") == StringRef::npos &&
           isDigit(token.back());
  }

  PtxOperand parseOperand(StringRef token) {
    PtxOperand operand;
    token = token.trim();
    if (token.starts_with("[")) {
      auto [base, offset] = token.drop_front().drop_back().split('+');
      base = base.trim();
      operand.kind = PtxOperand::Memory;
      int64_t value = 0;
      offset.trim().getAsInteger(0, value);
      operand.value = static_cast<uint64_t>(value);
      auto parameter = parameters.find(base);
      if (base.starts_with("%"))
        operand.index = registerNumber(base);
      else if (parameter != parameters.end()) {
        operand.kind = PtxOperand::Parameter;
        operand.index = parameter->second;
      }
      return operand;
    }
    if (token.starts_with("{")) {
      operand.kind = PtxOperand::Vector;
      SmallVector<StringRef> parts;
      token.drop_front().drop_back().split(parts, ',');
      for (StringRef part : parts)
        if (part = part.trim(); part.starts_with("%"))
          operand.registers.push_back(registerNumber(part));
      return operand;
    }
    if (token.starts_with("%")) {
      token = token.split('|').first;
      operand.kind = isRegister(token) ? PtxOperand::Register : PtxOperand::Special;
      operand.index = isRegister(token) ? registerNumber(token) : specialRegister(token);
      return operand;
    }
    if (token.starts_with("$")) {
      operand.kind = PtxOperand::Label;
      return operand;
    }
    if (auto parameter = parameters.find(token); parameter != parameters.end()) {
      operand.value = kParameterAddress + static_cast<uint64_t>(parameter->second);
      return operand;
    }
    // Numbers; bits of floats. Names of shared memory are addresses that nobody needs.
    if (token.starts_with("0f") || token.starts_with("0d"))
      token.drop_front(2).getAsInteger(16, operand.value);
    else if (int64_t value = 0; !token.rtrim('U').getAsInteger(0, value))
      operand.value = static_cast<uint64_t>(value);
    else
      token.rtrim('U').getAsInteger(0, operand.value);
    return operand;
  }

  bool parseInstruction(StringRef statement) {
    wrong = statement.str();
    PtxInstruction instruction;
    if (statement.consume_front("@")) {
      instruction.negated = statement.consume_front("!");
      StringRef predicate = statement.take_until(isSpace);
      if (!predicate.starts_with("%"))
        return false;
      instruction.predicate = registerNumber(predicate);
      statement = statement.drop_front(predicate.size()).ltrim();
    }
    StringRef name = statement.take_until(isSpace);
    instruction.name = name.str();
    StringRef rest = statement.drop_front(name.size()).trim();
    int depth = 0;
    size_t begin = 0;
    for (size_t i = 0; i <= rest.size() && !rest.empty(); ++i) {
      char c = i < rest.size() ? rest[i] : ',';
      depth += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
      if (c != ',' || depth)
        continue;
      StringRef token = rest.slice(begin, i).trim();
      instruction.operands.push_back(parseOperand(token));
      if (instruction.operands.back().kind == PtxOperand::Label)
        pending.push_back({kernel.instructions.size(), token.str()});
      begin = i + 1;
    }
    StringRef head = name.split('.').first;
    bool result = !is_contained(
        {"st", "bra", "bar", "barrier", "red", "ret", "membar", "fence", "prefetch", "exit", "cp", "griddepcontrol"},
        head);
    for (auto [number, operand] : enumerate(instruction.operands)) {
      SmallVectorImpl<int> &list = static_cast<SmallVectorImpl<int> &>(
          result && number == 0 && operand.kind != PtxOperand::Memory ? instruction.results : instruction.sources);
      if (operand.index >= 0 && (operand.kind == PtxOperand::Register || operand.kind == PtxOperand::Memory))
        list.push_back(operand.index);
      list.append(operand.registers.begin(), operand.registers.end());
    }
    if (instruction.predicate >= 0)
      instruction.sources.push_back(instruction.predicate);
    // Sums are read where they lie.
    if (name.starts_with("wgmma.mma_async"))
      instruction.sources.append(instruction.results);
    price(instruction);
    instruction.weights = name.starts_with("ld.global") && name.contains(".cs");
    kernel.instructions.push_back(std::move(instruction));
    return true;
  }

  /// The pipes of an instruction.
  void price(PtxInstruction &i) {
    StringRef name = i.name, head = name.split('.').first, type = name.rsplit('.').second;
    PipeCounts &cost = i.cost;
    auto previous = [&](unsigned operand) -> StringRef {
      if (operand >= i.operands.size() || i.operands[operand].kind != PtxOperand::Register)
        return "";
      auto found = definitions.find(std::to_string(i.operands[operand].index));
      return found == definitions.end() ? StringRef() : StringRef(found->second);
    };
    auto number = [&](unsigned operand) {
      return operand < i.operands.size() && i.operands[operand].kind == PtxOperand::Number;
    };
    auto alu = [&](double count) { cost.issued = cost.alu = count; };
    auto fma = [&](double count, double clocks) {
      cost.issued = count;
      cost.fma = clocks;
    };
    bool half = type == "f16x2" || type == "bf16x2" || type == "f16" || type == "bf16";
    bool wide = type == "s64" || type == "u64" || type == "b64";
    if (type == "f64" && head != "mov" && head != "ld" && head != "st") {
      cost.issued = cost.fp64 = head == "div" || head == "sqrt" || head == "rcp" ? 20 : 1;
    } else if (head == "mov") {
      if (i.operands.size() > 1 && i.operands[1].kind == PtxOperand::Special)
        cost.issued = 1;
    } else if (head == "ld" && name.starts_with("ld.param")) {
    } else if (head == "cvta" || head == "ret" || head == "exit") {
    } else if (head == "cvt") {
      convert(i);
    } else if (head == "mma") {
      cost.issued = 1;
      // Bytes at twice the rate, bits at eight times that of bytes.
      cost.products = products(name) / (name.contains(".s8") ? 2 : name.contains(".b1") ? 16 : 1);
    } else if (head == "wgmma") {
      // A commit is a part of the last instruction.
      cost.issued = name.contains("commit_group") ? 0 : 1;
      cost.wgmma = products(name) / 4;
    } else if (name.starts_with("fence.proxy")) {
      cost.issued = 2;
    } else if (is_contained({"fma", "mad", "mul", "add", "sub"}, head) && (type == "f32" || half)) {
      fma(1, 1);
    } else if (head == "mul" || head == "mad") {
      // Integer products have half the rate of floats; the upper half of one takes two.
      double count = wide && !name.contains("wide") ? 4 : name.contains("hi") ? 2 : 1;
      fma(count, 2 * count);
    } else if (head == "div" || head == "rem") {
      if (type == "f32")
        fma(8, 8);
      else
        alu(type == "u16" || type == "s16" ? 10 : 20);
    } else if (is_contained({"ex2", "lg2", "rcp", "rsqrt", "sqrt", "sin", "cos", "tanh"}, head)) {
      cost.issued = 1;
      cost.xu = 1;
    } else if ((head == "add" || head == "sub") && wide) {
      // An offset goes into the address of an access; a counter stays.
      bool offset = number(2) && i.operands[0].index != i.operands[1].index;
      alu(offset ? 0 : 2);
    } else if (head == "or" || head == "xor") {
      bool fused = previous(1).starts_with("and") || previous(2).starts_with("and");
      alu(name.ends_with("pred") || fused ? 0 : wide ? 2 : 1);
    } else if (is_contained({"shl", "shr"}, head) && wide) {
      alu(2);
    } else if (head == "bfe") {
      alu(wide ? 4 : 2);
    } else if (is_contained({"and", "not"}, head)) {
      alu(name.ends_with("pred") ? 0 : wide ? 2 : 1);
    } else if (is_contained({"bra", "bar", "barrier", "ld", "st", "ldu", "cp", "shfl", "ldmatrix", "atom", "red",
                             "membar", "fence", "prefetch", "vote", "redux", "match", "activemask", "griddepcontrol"},
                            head)) {
      cost.issued = 1;
    } else {
      alu(1);
    }
    for (int result : i.results)
      definitions[std::to_string(result)] = i.name;
  }

  static void convert(PtxInstruction &i) {
    SmallVector<StringRef> parts;
    StringRef(i.name).split(parts, '.');
    StringRef from = parts.back(), to = parts[parts.size() - 2];
    auto isFloat = [](StringRef type) { return type.starts_with("f") || type.starts_with("bf"); };
    if (isFloat(from) != isFloat(to)) {
      i.cost.issued = 1;
      i.cost.xu = 1;
    } else if (isFloat(from)) {
      // Packing two halves is one instruction of the integer pipe, unpacking one of the other.
      i.cost.issued = 1;
      (to == "f32" ? i.cost.fma : i.cost.alu) = 1;
      if (from == "f64" || to == "f64")
        i.cost.fp64 = 1;
    } else if (to == "s64" || (from.starts_with("s") && from != to && from != "s64")) {
      i.cost.issued = i.cost.alu = 1;
    }
  }

  static double products(StringRef name) {
    SmallVector<StringRef> parts;
    name.split(parts, '.');
    for (StringRef part : parts) {
      unsigned m = 0, n = 0, k = 0;
      if (part.consume_front("m") && !part.consumeInteger(10, m) && part.consume_front("n") &&
          !part.consumeInteger(10, n) && part.consume_front("k") && !part.consumeInteger(10, k))
        return double(m) * n * k;
    }
    return 0;
  }
};
} // namespace

Expected<std::vector<PtxKernel>> device::parsePtx(StringRef text) { return Parser(text).run(); }

int64_t device::estimateRegisters(const PtxKernel &kernel) {
  const auto &code = kernel.instructions;
  // Arguments stay in the constant bank.
  std::vector<int> width = kernel.width;
  for (const PtxInstruction &instruction : code)
    if (StringRef(instruction.name).starts_with("ld.param"))
      for (int result : instruction.results)
        width[static_cast<size_t>(result)] = 0;
  size_t count = code.size();
  unsigned total = static_cast<unsigned>(kernel.width.size());
  // Alive before the first instruction of each basic block, to a fixed point.
  std::vector<BitVector> alive(count + 1);
  std::vector<size_t> starts;
  for (size_t i = 0; i < count; ++i)
    if (i == 0 || code[i].leader || StringRef(code[i - 1].name).starts_with("bra"))
      starts.push_back(i);
  for (size_t start : starts)
    alive[start].resize(total);
  alive[count].resize(total);
  int64_t most = 0;
  auto walk = [&](size_t begin, size_t end, BitVector now) {
    for (size_t i = end; i-- > begin;) {
      for (int result : code[i].results)
        if (code[i].predicate < 0)
          now.reset(static_cast<unsigned>(result));
      for (int source : code[i].sources)
        now.set(static_cast<unsigned>(source));
      int64_t sum = 0;
      for (unsigned live : now.set_bits())
        sum += width[live];
      most = std::max(most, sum);
    }
    return now;
  };
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t block = starts.size(); block-- > 0;) {
      size_t begin = starts[block], end = block + 1 < starts.size() ? starts[block + 1] : count;
      const PtxInstruction &last = code[end - 1];
      BitVector after(total);
      bool jumps = StringRef(last.name).starts_with("bra");
      if (jumps)
        after |= alive[static_cast<size_t>(last.operands[0].index)];
      if (!jumps || last.predicate >= 0)
        after |= alive[end];
      BitVector before = walk(begin, end, after);
      if (before != alive[begin]) {
        alive[begin] = before;
        changed = true;
      }
    }
  }
  // ptxas reorders and needs less than text in order, but some for addresses: about as many.
  return std::min<int64_t>(255, (most + 7) / 8 * 8);
}
