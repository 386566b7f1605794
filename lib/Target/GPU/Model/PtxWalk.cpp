//===- PtxWalk.cpp - a block's way through its kernel -----------------------===//

#include "Ptx.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/MathExtras.h"

#include <cstring>
#include <optional>

using namespace skim;
using namespace skim::device;
using llvm::ArrayRef;
using llvm::is_contained;
using llvm::maskTrailingOnes;
using llvm::SignExtend64;
using llvm::SmallVector;
using llvm::StringRef;
using llvm::StringSwitch;

namespace {
constexpr int64_t kMostSteps = 4'000'000;
constexpr double kAluLatency = 5, kXuLatency = 20, kFp64Latency = 20, kShuffleLatency = 24, kBarrier = 20;

/// The element type at the end of a name: `.u32`.
struct ElementType {
  unsigned bits = 32;
  bool isSigned = false, isFloat = false, isPredicate = false;
};

ElementType elementType(StringRef part) {
  ElementType type;
  if (part == "pred")
    return {1, false, false, true};
  type.isSigned = part.starts_with("s");
  type.isFloat = part.starts_with("f") || part.starts_with("bf");
  if (part.contains('x')) // f16x2
    return {32, false, true, false};
  part.drop_while([](char c) { return !std::isdigit(static_cast<unsigned char>(c)); }).getAsInteger(10, type.bits);
  return type;
}

/// A name, taken apart once.
struct Decoded {
  enum Class {
    Integer,
    Float,
    Move,
    Parameter,
    Load,
    Store,
    Copy,
    Commit,
    Wait,
    Fence,
    ProxyFence,
    Wgmma,
    WgmmaCommit,
    WgmmaWait,
    Barrier,
    Branch,
    Return,
    Other
  } kind = Other;
  SmallVector<StringRef, 6> parts;
  ElementType type, from;
  unsigned vector = 1;
  bool global = false;
  double latency = kAluLatency;
};

Decoded decode(const PtxInstruction &instruction, const DeviceFigures &device) {
  Decoded d;
  StringRef(instruction.name).split(d.parts, '.');
  StringRef head = d.parts[0];
  d.type = d.from = elementType(d.parts.back());
  auto has = [&](StringRef part) { return is_contained(d.parts, part); };
  d.global = has("global");
  d.vector = has("v2") ? 2 : has("v4") ? 4 : has("v8") ? 8 : 1;
  d.kind = StringSwitch<Decoded::Class>(head)
               .Cases({"mov", "cvta"}, Decoded::Move)
               .Cases({"add", "sub", "mul", "mad", "div", "rem", "min", "max"}, Decoded::Integer)
               .Cases({"shl", "shr", "and", "or", "xor", "not", "neg", "abs"}, Decoded::Integer)
               .Cases({"setp", "selp", "cvt", "bfe", "prmt"}, Decoded::Integer)
               .Cases({"ld", "ldu"}, Decoded::Load)
               .Cases({"st", "red", "prefetch"}, Decoded::Store)
               .Cases({"bar", "barrier"}, Decoded::Barrier)
               .Cases({"membar", "fence"}, has("proxy") ? Decoded::ProxyFence : Decoded::Fence)
               .Case("wgmma", has("mma_async")      ? Decoded::Wgmma
                              : has("commit_group") ? Decoded::WgmmaCommit
                              : has("wait_group")   ? Decoded::WgmmaWait
                                                    : Decoded::Other)
               .Case("bra", Decoded::Branch)
               .Cases({"ret", "exit"}, Decoded::Return)
               .Case("cp", has("commit_group") ? Decoded::Commit
                           : has("wait_group") ? Decoded::Wait
                                               : Decoded::Copy)
               .Default(Decoded::Other);
  if (head == "ld" && has("param"))
    d.kind = Decoded::Parameter;
  if (head == "bar" && has("warp"))
    d.kind = Decoded::Other;
  if (head == "cvt") {
    d.type = elementType(d.parts[d.parts.size() - 2]);
    if (d.type.isFloat || d.from.isFloat)
      d.kind = Decoded::Float;
  } else if (d.kind == Decoded::Integer && d.type.isFloat) {
    d.kind = Decoded::Float;
  }
  if (head == "mma")
    d.latency = device.mmaLatency;
  else if (head == "shfl" || head == "vote" || head == "redux")
    d.latency = kShuffleLatency;
  else if (head == "ldmatrix" || has("shared"))
    d.latency = device.sharedLatency;
  else if (head == "atom")
    d.latency = device.l2Latency;
  else if (instruction.cost.xu > 0)
    d.latency = kXuLatency;
  else if (instruction.cost.fp64 > 0)
    d.latency = kFp64Latency * instruction.cost.fp64;
  else if (instruction.cost.issued == 0)
    d.latency = 0;
  return d;
}

uint64_t truncated(uint64_t value, unsigned bits) {
  return bits >= 64 ? value : value & maskTrailingOnes<uint64_t>(bits);
}
int64_t extended(uint64_t value, unsigned bits) {
  return bits >= 64 ? static_cast<int64_t>(value) : SignExtend64(value, bits);
}

bool compare(StringRef how, ElementType type, uint64_t a, uint64_t b) {
  a = truncated(a, type.bits);
  b = truncated(b, type.bits);
  bool less = type.isSigned ? extended(a, type.bits) < extended(b, type.bits) : a < b;
  return StringSwitch<bool>(how)
      .Case("eq", a == b)
      .Case("ne", a != b)
      .Cases({"lt", "lo"}, less)
      .Cases({"le", "ls"}, less || a == b)
      .Cases({"gt", "hi"}, !less && a != b)
      .Cases({"ge", "hs"}, !less)
      .Default(false);
}

/// The result of integers that are all known.
std::optional<uint64_t> compute(const Decoded &d, ArrayRef<uint64_t> in) {
  StringRef head = d.parts[0];
  unsigned bits = d.type.bits;
  auto a = [&](unsigned i) { return truncated(in[i], bits); };
  auto s = [&](unsigned i) { return extended(truncated(in[i], bits), bits); };
  bool sign = d.type.isSigned;
  if (in.empty())
    return std::nullopt;
  if (head == "cvt") {
    uint64_t value = truncated(in[0], d.from.bits);
    return truncated(d.from.isSigned ? static_cast<uint64_t>(extended(value, d.from.bits)) : value, bits);
  }
  if (head == "not")
    return truncated(~in[0], bits);
  if (head == "neg")
    return truncated(0 - in[0], bits);
  if (head == "abs")
    return truncated(static_cast<uint64_t>(std::abs(s(0))), bits);
  if (in.size() < 2)
    return std::nullopt;
  if (head == "setp")
    return compare(d.parts[1], d.type, in[0], in[1]);
  if (head == "add")
    return truncated(in[0] + in[1], bits);
  if (head == "sub")
    return truncated(in[0] - in[1], bits);
  if (head == "mul" || head == "mad") {
    uint64_t plus = head == "mad" && in.size() > 2 ? in[2] : 0;
    if (d.parts[1] == "wide")
      return (sign ? static_cast<uint64_t>(s(0) * s(1)) : a(0) * a(1)) + plus;
    if (d.parts[1] == "hi")
      return bits <= 32 ? std::optional(truncated(
                              ((sign ? static_cast<uint64_t>(s(0) * s(1)) : a(0) * a(1)) >> bits) + plus, bits))
                        : std::nullopt;
    return truncated(in[0] * in[1] + plus, bits);
  }
  if (head == "div" || head == "rem") {
    if (a(1) == 0 || (sign && s(1) == -1))
      return std::nullopt;
    if (sign)
      return truncated(static_cast<uint64_t>(head == "div" ? s(0) / s(1) : s(0) % s(1)), bits);
    return head == "div" ? a(0) / a(1) : a(0) % a(1);
  }
  if (head == "min")
    return (sign ? s(0) < s(1) : a(0) < a(1)) ? a(0) : a(1);
  if (head == "max")
    return (sign ? s(0) > s(1) : a(0) > a(1)) ? a(0) : a(1);
  uint64_t by = truncated(in[1], 32);
  if (head == "shl")
    return by >= bits ? 0 : truncated(in[0] << by, bits);
  if (head == "shr")
    return sign ? truncated(static_cast<uint64_t>(s(0) >> std::min<uint64_t>(by, bits - 1)), bits)
                : (by >= bits ? 0 : a(0) >> by);
  if (head == "and")
    return truncated(in[0] & in[1], bits);
  if (head == "or")
    return truncated(in[0] | in[1], bits);
  if (head == "xor")
    return truncated(in[0] ^ in[1], bits);
  if (in.size() < 3)
    return std::nullopt;
  if (head == "selp")
    return in[2] & 1 ? a(0) : a(1);
  if (head == "bfe" && !sign)
    return truncated(a(0) >> std::min<uint64_t>(in[1] & 255, 63),
                     static_cast<unsigned>(std::min<uint64_t>(in[2] & 255, 64)));
  return std::nullopt;
}

/// A register's contents.
struct Word {
  uint64_t bits = 0;
  bool known = false;
  double ready = 0;
  bool streamed = false; // and not used yet
};

class Warp {
public:
  Warp(const PtxKernel &kernel, ArrayRef<Decoded> decoded, const WalkLaunch &launch, const DeviceFigures &device,
       uint32_t first, double share, BlockWalk &result, std::vector<std::pair<double, double>> &requests,
       std::vector<std::pair<double, double>> &streams)
      : kernel(kernel), decoded(decoded), launch(launch), device(device), first(first), share(share), result(result),
        requests(requests), streams(streams), values(kernel.width.size()), missed(kernel.instructions.size()) {}

  bool done = false;
  double clock = 0;
  double firstUse = 0, lastUse = 0; // of what is streamed
  /// Clocks of the warp's own work since the last use.
  double workBehind() const { return std::max(issuedBehind, aluBehind * 128 / device.aluLanes); }

  /// Until a barrier or the end.
  Error run() {
    while (at < kernel.instructions.size()) {
      const PtxInstruction &instruction = kernel.instructions[at];
      const Decoded &d = decoded[at];
      if (instruction.leader)
        endBlock();
      if (++steps > kMostSteps)
        return fail("kernel does not end", kernel.name, "a loop whose end integers tell", instruction.name);
      if (d.kind == Decoded::Return && holds(instruction, false))
        break;
      ++at;
      if (d.kind == Decoded::Barrier) {
        begin(instruction);
        endBlock();
        ahead = free = 0;
        return Error::success();
      }
      if (d.kind == Decoded::Branch)
        branch(instruction);
      else
        execute(instruction, d);
    }
    endBlock();
    done = true;
    return Error::success();
  }

private:
  const PtxKernel &kernel;
  ArrayRef<Decoded> decoded;
  const WalkLaunch &launch;
  const DeviceFigures &device;
  uint32_t first; // thread
  double share;   // warps of the block in a partition
  BlockWalk &result;
  std::vector<std::pair<double, double>> &requests, &streams; // of the device's memory: when, bytes
  std::vector<Word> values;
  std::vector<int64_t> missed; // how often a branch on something unknown was not taken
  size_t at = 0;
  int64_t steps = 0;
  double latest = 0, issued = 0, alu = 0; // since the basic block's begin
  double issuedBehind = 0, aluBehind = 0; // since the last use of what is streamed
  std::vector<double> groups;             // of copies: when they have arrived
  double copies = 0;
  std::vector<double> wgmmaGroups; // when they are done
  double wgmmas = 0, tensor = 0;   // those since the last group; when the partition's tensor core is free
  // The clock is that of the partition's last warp. Warps that took turns with wgmma go on one after the other: by how
  // much the first is ahead, and what of that time the others have not issued in yet.
  double ahead = 0, free = 0;
  double turns = 0; // how long the others' last wgmma took

  /// Clocks of issue that the block's instructions so far need, of one warp and of the others that share its partition.
  double own() const { return std::max(issued, alu * 128 / device.aluLanes); }
  double others() const { return (share - 1) * own(); }
  /// When they have gone.
  double issuedUntil() const { return clock + own() + std::max(0.0, others() - free); }

  void endBlock() {
    clock = std::max(issuedUntil(), latest);
    free = std::max(0.0, free - others());
    latest = clock;
    issued = alu = 0;
  }

  /// When an instruction goes.
  double begin(const PtxInstruction &instruction) {
    double start = clock;
    for (int source : instruction.sources)
      start = std::max(start, values[static_cast<size_t>(source)].ready);
    if (!renames(instruction))
      use(instruction, start);
    issuedBehind += instruction.cost.issued;
    aluBehind += instruction.cost.alu;
    result.pipes += instruction.cost;
    if (instruction.inLoop)
      result.loops += instruction.cost;
    issued += instruction.cost.issued;
    alu += instruction.cost.alu;
    if (instruction.cost.issued > 0)
      latest = std::max(latest, start);
    return start;
  }

  /// Registers change their name from one turn of a loop to the next.
  static bool renames(const PtxInstruction &instruction) {
    return instruction.cost.issued == 0 && StringRef(instruction.name).starts_with("mov");
  }

  void use(const PtxInstruction &instruction, double start) {
    for (int source : instruction.sources) {
      Word &word = values[static_cast<size_t>(source)];
      if (!word.streamed)
        continue;
      word.streamed = false;
      firstUse = firstUse > 0 ? std::min(firstUse, start) : start;
      if (start > lastUse) { // else in one basic block, whose work is all behind
        lastUse = start;
        issuedBehind = aluBehind = 0;
      }
    }
  }

  bool holds(const PtxInstruction &instruction, bool otherwise) const {
    if (instruction.predicate < 0)
      return true;
    const Word &value = values[static_cast<size_t>(instruction.predicate)];
    return value.known ? ((value.bits & 1) != 0) != instruction.negated : otherwise;
  }

  void branch(const PtxInstruction &instruction) {
    begin(instruction);
    size_t own = at - 1;
    bool unknown = instruction.predicate >= 0 && !values[static_cast<size_t>(instruction.predicate)].known;
    // What depends on data: the way on, but not round and round.
    bool taken = unknown ? ++missed[own] > 64 : holds(instruction, false);
    result.unknown += unknown;
    endBlock();
    if (taken)
      at = static_cast<size_t>(instruction.operands[0].index);
  }

  Word argument(uint64_t index) const {
    bool known = index < launch.arguments.size();
    return {known ? launch.arguments[index] : 0, known, 0};
  }
  Word read(const PtxOperand &operand) const {
    switch (operand.kind) {
    case PtxOperand::Register:
      return values[static_cast<size_t>(operand.index)];
    case PtxOperand::Number:
      return {operand.value, true, 0};
    case PtxOperand::Parameter:
      return argument(static_cast<uint64_t>(operand.index));
    case PtxOperand::Memory: { // of a chosen parameter
      const Word &address = values[static_cast<size_t>(operand.index)];
      return address.known && address.bits >= kParameterAddress ? argument(address.bits - kParameterAddress) : Word();
    }
    case PtxOperand::Special: {
      int index = operand.index;
      if (index < kCtaid)
        return {index == kTid ? first : 0, true, 0};
      if (index < kNtid)
        return {launch.block[static_cast<size_t>(index - kCtaid)], true, 0};
      if (index < kNctaid)
        return {index == kNtid ? launch.threads : 1, true, 0};
      if (index < kLane)
        return {launch.grid[static_cast<size_t>(index - kNctaid)], true, 0};
      return {0, index == kLane, 0};
    }
    default:
      return {};
    }
  }

  void write(const PtxInstruction &instruction, Word value) {
    for (int index : instruction.results)
      values[static_cast<size_t>(index)] = value;
  }

  /// Clocks until data of global memory is there; `value` becomes what it holds, if that is known.
  double access(const PtxInstruction &instruction, const Decoded &d, const PtxOperand &operand, double start,
                double bytes, Word *value) {
    WalkMemory memory;
    if (operand.index >= 0 && values[static_cast<size_t>(operand.index)].known)
      memory = launch.memory(values[static_cast<size_t>(operand.index)].bits + operand.value, d.type.bits / 8);
    else
      memory.own = is_contained(d.parts, "cs");
    if (value && memory.data && d.type.bits <= 64 && d.vector == 1) {
      std::memcpy(&value->bits, memory.data, d.type.bits / 8);
      if (d.type.isSigned)
        value->bits = static_cast<uint64_t>(extended(value->bits, d.type.bits));
      value->known = true;
    }
    if (!memory.own)
      return device.l2Latency;
    if (value && (instruction.weights || !kernel.streams)) {
      value->streamed = true;
      streams.push_back({start, bytes});
    }
    requests.push_back({start, bytes});
    return device.memoryLatency;
  }

  /// Until all groups but the newest, of which the instruction says how many, are done.
  void wait(const PtxInstruction &instruction, const std::vector<double> &done) {
    size_t keep = instruction.operands.empty() ? 0 : static_cast<size_t>(instruction.operands[0].value);
    for (size_t i = 0; i + keep < done.size(); ++i)
      latest = std::max(latest, done[i]);
    endBlock();
  }

  void execute(const PtxInstruction &instruction, const Decoded &d) {
    if (!holds(instruction, true)) { // its place in the queue is taken all the same
      result.pipes.issued += instruction.cost.issued;
      issued += instruction.cost.issued;
      return;
    }
    double start = begin(instruction), latency = d.latency;
    Word value;
    bool each = false; // results get values of their own
    switch (d.kind) {
    case Decoded::Move:
      if (instruction.operands.size() == 2 && instruction.operands[0].kind == PtxOperand::Register)
        value = read(instruction.operands[1]);
      break;
    case Decoded::Parameter:
      if (instruction.operands[1].kind == PtxOperand::Parameter || instruction.operands[1].index >= 0)
        value = read(instruction.operands[1]);
      each = instruction.results.size() > 1;
      break;
    case Decoded::Integer: {
      SmallVector<uint64_t, 4> in;
      bool known = true;
      for (const PtxOperand &operand : ArrayRef(instruction.operands).drop_front()) {
        Word one = read(operand);
        known &= one.known;
        in.push_back(one.bits);
      }
      if (known)
        if (std::optional<uint64_t> bits = compute(d, in))
          value = {*bits, true, 0};
      break;
    }
    case Decoded::Load:
      if (d.parts[1] == "acquire")
        result.acquired = result.acquired > 0 ? std::min(result.acquired, start) : start;
      if (d.global)
        latency = access(instruction, d, instruction.operands.back(), start, d.vector * d.type.bits / 8 * 32.0, &value);
      break;
    case Decoded::Copy: {
      double bytes = instruction.operands.size() > 2 ? static_cast<double>(instruction.operands[2].value) : 16;
      copies = std::max(copies, start + access(instruction, d, instruction.operands[1], start, bytes * 32, nullptr));
      break;
    }
    case Decoded::Commit:
      groups.push_back(copies);
      break;
    case Decoded::Wait:
      wait(instruction, groups);
      break;
    case Decoded::Wgmma: {
      // Behind what makes its words of A; the warps of a partition take turns. Sums are there when their group is
      // waited for; nobody else may ask.
      double alone = device.wgmmaProducts > 0 ? instruction.cost.wgmma * 4 / device.wgmmaProducts : 0;
      double last = std::max(start, issuedUntil());
      tensor = std::max({tensor + share * alone, last - ahead + share * alone, last + alone});
      wgmmas = std::max(tensor, last + device.mmaLatency);
      turns = (share - 1) * alone;
      break;
    }
    case Decoded::WgmmaCommit:
      wgmmaGroups.push_back(wgmmas);
      break;
    case Decoded::WgmmaWait: {
      double before = std::max(issuedUntil(), latest);
      wait(instruction, wgmmaGroups);
      ahead = free = std::min(clock - before, turns);
      break;
    }
    case Decoded::ProxyFence:
      latest = std::max(latest, start + device.sharedLatency);
      endBlock();
      break;
    case Decoded::Fence: // until the second level of cache has what was written
      latest = std::max(latest, start + device.l2Latency);
      endBlock();
      break;
    default:
      break;
    }
    if (each)
      value.known = false;
    value.ready = start + latency;
    write(instruction, value);
  }
};
} // namespace

Expected<BlockWalk> device::walkBlock(const PtxKernel &kernel, const WalkLaunch &launch, const DeviceFigures &device) {
  BlockWalk result;
  std::vector<Decoded> decoded;
  for (const PtxInstruction &instruction : kernel.instructions)
    decoded.push_back(decode(instruction, device));
  std::vector<std::pair<double, double>> requests, streams;
  std::vector<Warp> warps;
  uint32_t count = (launch.threads + 31) / 32;
  result.warps = count;
  double share = result.sharing = std::max(1.0, count / 4.0);
  for (uint32_t warp = 0; warp < count; ++warp)
    warps.emplace_back(kernel, decoded, launch, device, warp * 32, share, result, requests, streams);
  // From barrier to barrier.
  for (bool any = true; any;) {
    any = false;
    double meeting = 0;
    for (Warp &warp : warps) {
      if (warp.done)
        continue;
      any = true;
      if (Error error = warp.run())
        return error;
      meeting = std::max(meeting, warp.clock);
      result.clocks = std::max(result.clocks, warp.clock);
    }
    for (Warp &warp : warps)
      if (!warp.done)
        warp.clock = meeting + kBarrier;
  }
  for (const Warp &warp : warps) {
    if (warp.firstUse > 0)
      result.firstUse = result.firstUse > 0 ? std::min(result.firstUse, warp.firstUse) : warp.firstUse;
    result.lastUse = std::max(result.lastUse, warp.lastUse);
    result.workBehind = std::max(result.workBehind, warp.workBehind());
  }
  for (auto [i, request] : llvm::enumerate(streams)) {
    result.firstRequest = i ? std::min(result.firstRequest, request.first) : request.first;
    result.bytesBefore += request.first < result.firstUse ? request.second : 0;
  }
  // Most bytes within a latency.
  llvm::sort(requests);
  double sum = 0;
  for (size_t begin = 0, end = 0; end < requests.size(); ++end) {
    sum += requests[end].second;
    while (requests[begin].first + device.memoryLatency <= requests[end].first)
      sum -= requests[begin++].second;
    result.inFlight = std::max(result.inFlight, sum);
  }
  return result;
}
