//===- Sass.cpp - machine code of kernels -------------------------------------===//

#include "Sass.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/raw_ostream.h"

#include <vector>

using namespace skim;
using namespace skim::device;
using llvm::ArrayRef;
using llvm::FileRemover;
using llvm::MemoryBuffer;
using llvm::raw_fd_ostream;
using llvm::SmallString;
using llvm::SmallVector;
using llvm::StringMap;
using llvm::StringRef;
using llvm::StringSwitch;
using llvm::Twine;

namespace {
struct Line {
  PipeCounts cost;
  bool weights = false, local = false;
};

enum class Pipe { Issue, ALU, FMA, HalfFMA, XU, FP64, None };

Pipe pipeOf(StringRef opcode) {
  return StringSwitch<Pipe>(opcode)
      .Case("NOP", Pipe::None)
      .Cases({"LOP3", "SHF", "PRMT", "IADD3", "IADD", "ISETP", "SEL", "LEA", "MOV", "VIADD", "SGXT", "BMSK"}, Pipe::ALU)
      .Cases({"IMNMX", "VIMNMX", "FMNMX", "FSETP", "FSEL", "F2FP", "PLOP3", "IABS", "P2R", "R2P"}, Pipe::ALU)
      .Cases({"FFMA", "FMUL", "FADD", "HFMA2", "HADD2", "HMUL2", "HMNMX2", "CS2R"}, Pipe::FMA)
      .Cases({"IMAD", "IDP", "FSWZADD"}, Pipe::HalfFMA)
      .Cases({"MUFU", "F2I", "I2F", "F2F", "I2I", "POPC", "FLO", "BREV", "FRND"}, Pipe::XU)
      .Cases({"DFMA", "DMUL", "DADD", "DSETP"}, Pipe::FP64)
      .Default(Pipe::Issue);
}

Line readLine(StringRef instruction) {
  if (instruction.starts_with("@"))
    instruction = instruction.split(' ').second.ltrim();
  StringRef name = instruction.take_until([](char c) { return c == ' ' || c == ';'; });
  StringRef opcode = name.split('.').first;
  Line line;
  line.weights = opcode == "LDG" && name.contains(".EF");
  line.local = opcode == "LDL" || opcode == "STL";
  Pipe pipe = pipeOf(opcode);
  if (pipe == Pipe::None)
    return line;
  line.cost.issued = 1;
  switch (pipe) {
  case Pipe::ALU:
    line.cost.alu = 1;
    break;
  case Pipe::FMA:
    line.cost.fma = 1;
    break;
  case Pipe::HalfFMA:
    line.cost.fma = 2;
    break;
  case Pipe::XU:
    line.cost.xu = 1;
    break;
  case Pipe::FP64:
    line.cost.fp64 = 1;
    break;
  default:
    break;
  }
  return line;
}

/// Sums a kernel: `loops` are ranges of lines, from label to the branch back.
SassKernel sum(ArrayRef<Line> lines, ArrayRef<std::pair<size_t, size_t>> loops) {
  auto loads = [&](const std::pair<size_t, size_t> &loop) {
    return llvm::any_of(lines.slice(loop.first, loop.second - loop.first),
                        [](const Line &line) { return line.weights; });
  };
  std::vector<bool> hot(lines.size());
  for (const auto &loop : loops) {
    bool inner = loads(loop) && llvm::none_of(loops, [&](const auto &other) {
                   return other != loop && other.first >= loop.first && other.second <= loop.second && loads(other);
                 });
    if (inner)
      std::fill(hot.begin() + static_cast<ptrdiff_t>(loop.first), hot.begin() + static_cast<ptrdiff_t>(loop.second),
                true);
  }
  SassKernel kernel;
  for (auto [line, isHot] : llvm::zip(lines, hot)) {
    (isHot ? kernel.loops : kernel.rest) += line.cost;
    (isHot ? kernel.loopLoads : kernel.restLoads) += line.weights;
    kernel.local |= line.local;
  }
  return kernel;
}
} // namespace

StringMap<SassKernel> device::readSass(StringRef text) {
  StringMap<SassKernel> kernels;
  std::string name;
  std::vector<Line> lines;
  StringMap<size_t> labels;
  SmallVector<std::pair<size_t, size_t>> loops;
  auto finish = [&] {
    if (!name.empty())
      kernels[name] = sum(lines, loops);
    name.clear();
    lines.clear();
    labels.clear();
    loops.clear();
  };
  SmallVector<StringRef> all;
  text.split(all, '\n');
  for (StringRef line : all) {
    if (line.consume_front(".text.") && line.consume_back(":")) {
      finish();
      name = line.str();
    } else if (line.starts_with(".L_") && line.ends_with(":")) {
      labels[line.drop_back()] = lines.size();
    } else if (StringRef code = line.ltrim(); code.starts_with("/*") && code.contains("*/") && code.contains(';')) {
      code = code.split("*/").second.trim();
      // What stands behind the last branch of a kernel is padding: a branch to itself.
      lines.push_back(readLine(code));
      if (!code.contains("BRA"))
        continue;
      size_t at = code.find("`(");
      StringRef target = at == StringRef::npos ? StringRef() : code.drop_front(at + 2).split(')').first;
      auto label = labels.find(target);
      if (label != labels.end() && label->second + 1 < lines.size())
        loops.push_back({label->second, lines.size()});
    }
  }
  finish();
  return kernels;
}

static std::optional<std::string> findNvdisasm() {
  if (auto found = llvm::sys::findProgramByName("nvdisasm"))
    return *found;
  for (const char *variable : {"CUDA_HOME", "CUDA_PATH"})
    if (const char *home = std::getenv(variable))
      if (auto found = llvm::sys::findProgramByName("nvdisasm", {(Twine(home) + "/bin").str()}))
        return *found;
  return std::nullopt;
}

std::optional<std::string> device::disassemble(const std::string &cubin) {
  std::optional<std::string> program = findNvdisasm();
  SmallString<128> source, result;
  if (!program || llvm::sys::fs::createTemporaryFile("skim", "cubin", source))
    return std::nullopt;
  FileRemover removeSource(source);
  if (llvm::sys::fs::createTemporaryFile("skim", "sass", result))
    return std::nullopt;
  FileRemover removeResult(result);
  std::error_code code;
  {
    raw_fd_ostream stream(source, code);
    stream << cubin;
  }
  std::optional<StringRef> redirects[] = {StringRef(), StringRef(result), StringRef()};
  if (code || llvm::sys::ExecuteAndWait(*program, {*program, "-c", source}, std::nullopt, redirects) != 0)
    return std::nullopt;
  auto text = MemoryBuffer::getFile(result);
  if (!text)
    return std::nullopt;
  return (*text)->getBuffer().str();
}
