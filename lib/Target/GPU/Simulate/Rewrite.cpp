//===- Rewrite.cpp - a kernel as what one lane does -------------------------===//

#include "Simulate.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/Path.h"

#include <cstddef>

using namespace mlir;
using namespace skim;
using namespace skim::simulate;

//===----------------------------------------------------------------------===//
// What operations touch
//===----------------------------------------------------------------------===//

int64_t simulate::byteSize(Type type) {
  if (isa<LLVM::LLVMPointerType>(type))
    return 8;
  if (auto vector = dyn_cast<VectorType>(type)) {
    if (!vector.getElementType().isIntOrFloat())
      return 0;
    int64_t bits = vector.getNumElements() * vector.getElementTypeBitWidth();
    return bits % 8 ? 0 : bits / 8;
  }
  if (!type.isIntOrFloat())
    return 0;
  return (type.getIntOrFloatBitWidth() + 7) / 8;
}

std::optional<Access> simulate::accessOf(Operation *op) {
  auto make = [](Value pointer, Type type, std::optional<int64_t> alignment) {
    int64_t bytes = byteSize(type);
    return Access{pointer, bytes, std::min({bytes, alignment.value_or(bytes), int64_t(16)})};
  };
  if (auto load = dyn_cast<LLVM::LoadOp>(op))
    return make(load.getAddr(), load.getType(), load.getAlignment());
  if (auto store = dyn_cast<LLVM::StoreOp>(op))
    return make(store.getAddr(), store.getValue().getType(), store.getAlignment());
  if (auto atomic = dyn_cast<LLVM::AtomicRMWOp>(op))
    return make(atomic.getPtr(), atomic.getVal().getType(), atomic.getAlignment());
  if (auto atomic = dyn_cast<LLVM::AtomicCmpXchgOp>(op))
    return make(atomic.getPtr(), atomic.getVal().getType(), atomic.getAlignment());
  return std::nullopt;
}

static int64_t arrayBytes(Type type) {
  if (auto array = dyn_cast<LLVM::LLVMArrayType>(type))
    return arrayBytes(array.getElementType()) * array.getNumElements();
  return byteSize(type);
}

static std::string spellLocation(Location loc) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  if (auto file = dyn_cast<FileLineColLoc>(loc))
    stream << llvm::sys::path::filename(file.getFilename()) << ":" << file.getLine() << ":" << file.getColumn();
  else if (auto name = dyn_cast<NameLoc>(loc))
    stream << name.getName().getValue();
  else if (!isa<UnknownLoc>(loc))
    loc.print(stream);
  return text.empty() ? "without a location" : "at " + text;
}

namespace {

/// What the simulator must know of an operation, by kind.
struct Entry {
  const char *kind;
  std::vector<int64_t> params;
  int64_t bytes = 0, piece = 0;
  bool shared = false;
  const char *name = nullptr; // instead of the operation's
};

class Rewriter {
public:
  Rewriter(gpu::GPUFuncOp kernel, ModuleOp into, const std::string &symbol) : kernel(kernel), builder(into) {
    builder.setInsertionPointToEnd(into.getBody());
    auto pointer = LLVM::LLVMPointerType::get(into.getContext());
    function = func::FuncOp::create(builder, kernel.getLoc(), symbol, builder.getFunctionType({pointer, pointer}, {}));
  }

  LogicalResult run(Json &description);

private:
  std::optional<Entry> entryOf(Operation *op);
  LogicalResult number(Json &ops);
  void placeShared();
  void loadArguments();
  void rewrite(Operation *op);
  void rewriteLoop(Operation *op);
  void rewriteMemory(Hooks &hooks, Operation *op);
  void rewriteText(Hooks &hooks, Operation *op, const InlinePtx &text, ValueRange operands);
  void rewriteWarpgroup(Hooks &hooks, Operation *op, const InlinePtx &text);
  void rewriteMath(Hooks &hooks, Operation *op, skim_sim_function function);
  bool rewriteIndex(Hooks &hooks, Operation *op);
  bool rewriteCollective(Hooks &hooks, Operation *op);
  bool rewriteArithmetic(Hooks &hooks, Operation *op);
  void replace(Operation *op, ValueRange values) {
    op->replaceAllUsesWith(values);
    op->erase();
  }
  /// A value, or the members of a structure.
  void replaceByWords(Hooks &hooks, Operation *op, ArrayRef<Value> words);
  SmallVector<Value> wordsOf(Hooks &hooks, ValueRange values) {
    return llvm::map_to_vector(values, [&](Value value) { return hooks.toWord(value); });
  }

  Hooks hooksAt(Location loc) { return Hooks(builder, loc, function.getArgument(0), words, capacity); }

  gpu::GPUFuncOp kernel;
  OpBuilder builder;
  func::FuncOp function;
  Value words;
  llvm::DenseMap<Operation *, int64_t> numbers;
  llvm::StringMap<int64_t> sharedOffsets;
  int64_t sharedBytes = 0;
  /// wgmma.fence: the number of its first register; which of its operands it hands over (wgmma has the others).
  struct RegisterFence {
    int64_t first;
    SmallVector<bool> fresh;
  };
  llvm::DenseMap<Operation *, RegisterFence> fences;
  int64_t registers = 0, capacity = Hooks::kWords;
};

} // namespace

//===----------------------------------------------------------------------===//
// The description
//===----------------------------------------------------------------------===//

static int64_t reduxKind(NVVM::ReduxKind kind) {
  switch (kind) {
  case NVVM::ReduxKind::ADD:
    return 0;
  case NVVM::ReduxKind::AND:
    return 1;
  case NVVM::ReduxKind::MAX:
    return 2;
  case NVVM::ReduxKind::MIN:
    return 3;
  case NVVM::ReduxKind::OR:
    return 4;
  case NVVM::ReduxKind::UMAX:
    return 5;
  case NVVM::ReduxKind::UMIN:
    return 6;
  default:
    return 7;
  }
}

static int64_t shuffleKind(gpu::ShuffleMode mode) {
  switch (mode) {
  case gpu::ShuffleMode::XOR:
    return 0;
  case gpu::ShuffleMode::UP:
    return 1;
  case gpu::ShuffleMode::DOWN:
    return 2;
  case gpu::ShuffleMode::IDX:
    return 3;
  }
  llvm_unreachable("no other modes");
}

static int64_t shuffleKind(NVVM::ShflKind kind) {
  switch (kind) {
  case NVVM::ShflKind::bfly:
    return 0;
  case NVVM::ShflKind::up:
    return 1;
  case NVVM::ShflKind::down:
    return 2;
  case NVVM::ShflKind::idx:
    return 3;
  }
  llvm_unreachable("no other kinds");
}

/// The simulator's Element.
static int64_t elementKind(NVVM::MMATypes type) {
  switch (type) {
  case NVVM::MMATypes::f16:
    return 0;
  case NVVM::MMATypes::bf16:
    return 1;
  case NVVM::MMATypes::s8:
    return 2;
  case NVVM::MMATypes::u8:
    return 3;
  case NVVM::MMATypes::b1:
    return 4;
  case NVVM::MMATypes::f32:
    return 5;
  default:
    return 6;
  }
}

std::optional<Entry> Rewriter::entryOf(Operation *op) {
  if (auto access = accessOf(op)) {
    const char *kind = isa<LLVM::LoadOp>(op) ? "load" : isa<LLVM::StoreOp>(op) ? "store" : "atomic";
    bool shared = cast<LLVM::LLVMPointerType>(access->pointer.getType()).getAddressSpace() == kSharedSpace;
    return Entry{kind, {}, access->bytes, access->piece, shared};
  }
  if (auto text = inlinePtxOf(op)) {
    int64_t bytes = text->elements * text->bits / 8;
    if (text->kind == InlinePtx::Load)
      return Entry{"load", {}, bytes, std::min<int64_t>(bytes, 16), false};
    if (text->kind == InlinePtx::WgmmaFence)
      return Entry{"wgmma_fence", {fences[op].first, llvm::count(fences[op].fresh, true)}, 0, 0, false, "wgmma.fence"};
    if (text->kind == InlinePtx::Wgmma)
      return Entry{"wgmma", {text->elements, text->bf16}, 0, 0, true, "wgmma.mma_async"};
    if (text->kind == InlinePtx::WgmmaWait)
      return Entry{"wgmma_wait", {text->immediate, op->getNumOperands()}, 0, 0, false, "wgmma.wait_group"};
    return std::nullopt;
  }
  return llvm::TypeSwitch<Operation *, std::optional<Entry>>(op)
      .Case([](NVVM::CpAsyncOp copy) { return Entry{"copy", {}, copy.getSize(), copy.getSize(), false}; })
      .Case([](NVVM::CpAsyncCommitGroupOp) { return Entry{"commit", {}}; })
      .Case([](NVVM::CpAsyncWaitGroupOp wait) { return Entry{"wait", {wait.getN()}}; })
      .Case<gpu::BarrierOp, NVVM::Barrier0Op, NVVM::BarrierOp>([](auto) { return Entry{"barrier", {}}; })
      .Case([](NVVM::SyncWarpOp) { return Entry{"syncwarp", {}}; })
      .Case([](gpu::ShuffleOp shuffle) { return Entry{"shuffle", {shuffleKind(shuffle.getMode())}}; })
      .Case([](NVVM::ShflOp shuffle) { return Entry{"shuffle", {shuffleKind(shuffle.getKind())}}; })
      .Case([](NVVM::VoteSyncOp vote) { return Entry{"vote", {static_cast<int64_t>(vote.getKind())}}; })
      .Case([](NVVM::ReduxOp redux) { return Entry{"redux", {reduxKind(redux.getKind())}}; })
      .Case([](NVVM::ElectSyncOp) { return Entry{"elect", {}}; })
      .Case([](NVVM::LdMatrixOp load) {
        return Entry{"ldmatrix", {load.getNum(), load.getLayout() == NVVM::MMALayout::col}, 0, 0, true};
      })
      .Case([](NVVM::WgmmaGroupSyncAlignedOp) { return Entry{"wgmma_commit", {}}; })
      .Case([](NVVM::FenceProxyOp) { return Entry{"fence_proxy", {}}; })
      .Case([](NVVM::MmaOp mma) {
        bool ands = mma.getB1Op() == NVVM::MMAB1Op::and_popc;
        auto shape = mma.getShape();
        return Entry{"mma",
                     {shape.getM(), shape.getN(), shape.getK(), elementKind(*mma.getMultiplicandAPtxType()),
                      elementKind(*mma.getMultiplicandBPtxType()), ands, elementKind(mma.accumPtxType())}};
      })
      .Default(std::nullopt);
}

LogicalResult Rewriter::number(Json &ops) {
  FailureOr<llvm::DenseSet<Value>> held = wgmmaRegisters(kernel);
  if (failed(held))
    return failure();
  kernel.getBody().walk([&](Operation *op) {
    std::optional<InlinePtx> text = inlinePtxOf(op);
    if (!text || !text->isWarpgroup())
      return;
    // A descriptor is two words, and wgmma has one beside that says whether D is added.
    capacity = std::max<int64_t>(capacity, op->getNumOperands() + 2);
    if (text->kind != InlinePtx::WgmmaFence)
      return;
    RegisterFence &fence = fences[op];
    fence.first = registers;
    for (Value operand : op->getOperands()) {
      fence.fresh.push_back(!held->contains(operand));
      registers += fence.fresh.back();
    }
  });
  llvm::DenseMap<Operation *, Flight> flights = loadsInFlight(kernel);
  auto isLoop = [](Operation *op) { return isa<scf::ForOp, scf::WhileOp>(op); };
  bool deep = false;
  kernel.getBody().walk<WalkOrder::PreOrder>([&](Operation *op) {
    std::optional<Entry> entry = entryOf(op);
    if (isLoop(op)) {
      unsigned depth = 1;
      for (Operation *parent = op->getParentOp(); parent != kernel; parent = parent->getParentOp())
        depth += isLoop(parent);
      deep |= depth > kMaxLoops;
      // Only loops with a hook inside decide where lanes meet.
      if (op->walk([&](Operation *inner) {
              return entryOf(inner) ? WalkResult::interrupt() : WalkResult::advance();
            }).wasInterrupted())
        entry = Entry{"loop", {}};
    }
    if (!entry)
      return;
    numbers[op] = static_cast<int64_t>(ops.size());
    Json item = {{"kind", entry->kind},
                 {"name", entry->name ? entry->name : op->getName().getStringRef().str()},
                 {"at", spellLocation(op->getLoc())}};
    if (auto label = op->getAttrOfType<StringAttr>(kLabelAttr))
      item["label"] = label.getValue().str();
    if (entry->bytes)
      item.update({{"bytes", entry->bytes}, {"piece", entry->piece}});
    if (entry->shared)
      item["shared"] = true;
    if (!entry->params.empty())
      item["params"] = entry->params;
    if (auto flight = flights.find(op); flight != flights.end())
      item.update({{"in_flight", flight->second.loads}, {"bytes_in_flight", flight->second.bytes}});
    ops.push_back(std::move(item));
  });
  if (deep)
    return kernel.emitOpError() << "is not simulated: expected at most " << kMaxLoops << " loops in each other";
  return success();
}

void Rewriter::placeShared() {
  llvm::StringSet<> used;
  kernel.getBody().walk([&](LLVM::AddressOfOp op) { used.insert(op.getGlobalName()); });
  auto module = kernel->getParentOfType<gpu::GPUModuleOp>();
  SmallVector<LLVM::GlobalOp> dynamic;
  for (auto global : module.getOps<LLVM::GlobalOp>()) {
    if (!used.contains(global.getSymName()))
      continue;
    int64_t bytes = arrayBytes(global.getGlobalType());
    if (bytes == 0) {
      dynamic.push_back(global);
      continue;
    }
    sharedBytes = llvm::alignTo(sharedBytes, global.getAlignment().value_or(16));
    sharedOffsets[global.getSymName()] = sharedBytes;
    sharedBytes += bytes;
  }
  // Dynamic memory begins at its largest alignment.
  int64_t alignment = 16;
  for (LLVM::GlobalOp global : dynamic)
    alignment = std::max<int64_t>(alignment, global.getAlignment().value_or(16));
  if (!dynamic.empty())
    sharedBytes = llvm::alignTo(sharedBytes, alignment);
  for (LLVM::GlobalOp global : dynamic)
    sharedOffsets[global.getSymName()] = sharedBytes;
}

//===----------------------------------------------------------------------===//
// Rewriting
//===----------------------------------------------------------------------===//

LogicalResult Rewriter::run(Json &description) {
  Json ops = Json::array(), arguments = Json::array();
  if (failed(number(ops)))
    return failure();
  placeShared();
  for (BlockArgument argument : kernel.getBody().getArguments())
    arguments.push_back(argument.getType().isIndex() ? 8 : byteSize(argument.getType()));
  description = {{"name", kernel.getName().str()}, {"symbol", function.getName().str()}, {"shared", sharedBytes},
                 {"registers", registers},         {"arguments", std::move(arguments)},  {"ops", std::move(ops)}};

  function.getBody().takeBody(kernel.getBody());
  SmallVector<Operation *> all;
  function.getBody().walk<WalkOrder::PreOrder>([&](Operation *op) { all.push_back(op); });
  loadArguments();
  for (Operation *op : all)
    rewrite(op);
  return success();
}

void Rewriter::loadArguments() {
  Block &entry = function.getBody().front();
  Location loc = function.getLoc();
  auto pointer = LLVM::LLVMPointerType::get(builder.getContext());
  unsigned count = entry.getNumArguments();
  entry.insertArgument(0u, pointer, loc);
  Value slots = entry.insertArgument(1u, pointer, loc);
  builder.setInsertionPointToStart(&entry);
  Hooks hooks = hooksAt(loc);
  words = LLVM::AllocaOp::create(builder, loc, pointer, builder.getI32Type(), hooks.i64(2 * capacity), 16);
  for (unsigned i = 0; i < count; ++i) {
    BlockArgument old = entry.getArgument(2);
    Type type = old.getType();
    Value slot = LLVM::GEPOp::create(builder, loc, pointer, builder.getI64Type(), slots,
                                     ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(i)});
    bool direct = !isa<LLVM::LLVMPointerType, IndexType>(type);
    Value value = LLVM::LoadOp::create(builder, loc, direct ? type : hooks.i64(), slot);
    if (type.isIndex())
      value = arith::IndexCastOp::create(builder, loc, type, value);
    else if (!direct)
      value = LLVM::IntToPtrOp::create(builder, loc, type, value);
    old.replaceAllUsesWith(value);
    entry.eraseArgument(2);
  }
}

void Rewriter::rewriteLoop(Operation *op) {
  int64_t id = numbers.lookup(op);
  builder.setInsertionPoint(op);
  hooksAt(op->getLoc()).loop(id, 0);
  Region &body = isa<scf::ForOp>(op) ? cast<scf::ForOp>(op).getRegion() : cast<scf::WhileOp>(op).getBefore();
  builder.setInsertionPointToStart(&body.front());
  hooksAt(op->getLoc()).loop(id, 1);
  builder.setInsertionPointAfter(op);
  hooksAt(op->getLoc()).loop(id, 2);
}

void Rewriter::rewriteMemory(Hooks &hooks, Operation *op) {
  Access access = *accessOf(op);
  Value host = hooks.access(numbers.lookup(op), hooks.address(access.pointer));
  unsigned alignment = access.piece;
  if (auto load = dyn_cast<LLVM::LoadOp>(op))
    return replace(op, LLVM::LoadOp::create(builder, hooks.loc, load.getType(), host, alignment)->getResults());
  if (auto store = dyn_cast<LLVM::StoreOp>(op)) {
    LLVM::StoreOp::create(builder, hooks.loc, store.getValue(), host, alignment);
    op->erase();
    return;
  }
  // Lanes take turns: what is atomic on the device is so here.
  Operation *copy = builder.clone(*op);
  copy->setOperand(0, host);
  replace(op, copy->getResults());
}

void Rewriter::rewriteText(Hooks &hooks, Operation *op, const InlinePtx &text, ValueRange operands) {
  Location loc = hooks.loc;
  SmallVector<Value> results;
  switch (text.kind) {
  case InlinePtx::Load: {
    Value address = operands[0];
    if (isa<LLVM::LLVMPointerType>(address.getType()))
      address = hooks.address(address);
    if (text.immediate)
      address = arith::AddIOp::create(builder, loc, address, hooks.i64(text.immediate));
    Value host = hooks.access(numbers.lookup(op), address);
    for (unsigned i = 0; i < text.elements; ++i) {
      Value at = LLVM::GEPOp::create(builder, loc, hooks.ptr(), builder.getI8Type(), host,
                                     ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(i * text.bits / 8)});
      Type type = op->getNumResults() == text.elements
                      ? op->getResult(i).getType()
                      : cast<LLVM::LLVMStructType>(op->getResult(0).getType()).getBody()[i];
      results.push_back(LLVM::LoadOp::create(builder, loc, type, at, text.bits / 8));
    }
    break;
  }
  case InlinePtx::Lop3: {
    // A sum of minterms of the table.
    Value ones = hooks.i32(-1), sum = hooks.i32(0);
    for (unsigned row = 0; row < 8; ++row) {
      if (!(text.immediate >> row & 1))
        continue;
      Value term = ones;
      for (unsigned i = 0; i < 3; ++i) {
        Value input = operands[i];
        if (!(row >> (2 - i) & 1))
          input = arith::XOrIOp::create(builder, loc, input, ones);
        term = arith::AndIOp::create(builder, loc, term, input);
      }
      sum = arith::OrIOp::create(builder, loc, sum, term);
    }
    results.push_back(sum);
    break;
  }
  case InlinePtx::Exp2:
  case InlinePtx::Tanh:
    results.push_back(
        hooks.math(text.kind == InlinePtx::Exp2 ? SKIM_SIM_EXP2 : SKIM_SIM_TANH, operands[0], operands[0]));
    break;
  case InlinePtx::MatrixAddress: {
    // What a descriptor drops shows in a bit of it that must be 0.
    Value dropped = arith::AndIOp::create(builder, loc, operands[0], hooks.i32(15));
    Value wrong = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ne, dropped, hooks.i32(0));
    Value mark = arith::ShLIOp::create(builder, loc, hooks.toWord(wrong), hooks.i32(14));
    Value units = arith::ShRUIOp::create(builder, loc, operands[0], hooks.i32(4));
    results.push_back(arith::OrIOp::create(builder, loc, units, mark));
    break;
  }
  default: // those of warpgroups are collective
    break;
  }
  if (op->getNumResults() == results.size())
    return replace(op, results);
  Value all = LLVM::PoisonOp::create(builder, loc, op->getResult(0).getType());
  for (auto [index, value] : llvm::enumerate(results))
    all = LLVM::InsertValueOp::create(builder, loc, all, value, ArrayRef<int64_t>{static_cast<int64_t>(index)});
  replace(op, all);
}

void Rewriter::rewriteWarpgroup(Hooks &hooks, Operation *op, const InlinePtx &text) {
  int64_t id = numbers.lookup(op);
  SmallVector<Value> in, results;
  if (text.kind == InlinePtx::WgmmaFence) {
    // Registers that wgmma has already stay what they are.
    ArrayRef<bool> fresh = fences[op].fresh;
    for (auto [operand, isFresh] : llvm::zip(op->getOperands(), fresh))
      if (isFresh)
        in.push_back(hooks.toWord(operand));
    SmallVector<Value> out = hooks.collective(id, in, in.size());
    size_t next = 0;
    for (auto [operand, isFresh] : llvm::zip(op->getOperands(), fresh))
      results.push_back(isFresh ? out[next++] : hooks.toWord(operand));
  } else if (text.kind == InlinePtx::WgmmaWait) {
    results = hooks.collective(id, wordsOf(hooks, op->getOperands()), op->getNumOperands());
  } else {
    unsigned sums = text.elements / 2;
    Value descriptor = op->getOperand(sums + 4);
    Value high = arith::ShRUIOp::create(builder, hooks.loc, descriptor, hooks.i64(32));
    in = {arith::TruncIOp::create(builder, hooks.loc, hooks.i32(), descriptor),
          arith::TruncIOp::create(builder, hooks.loc, hooks.i32(), high),
          text.first ? op->getOperand(sums + 5) : hooks.i32(0)};
    in.append(wordsOf(hooks, op->getOperands().slice(sums, 4)));
    in.append(wordsOf(hooks, op->getOperands().take_front(sums)));
    results = hooks.collective(id, in, sums);
  }
  if (op->getNumResults() == 0) {
    op->erase();
    return;
  }
  replaceByWords(hooks, op, results);
}

void Rewriter::rewriteMath(Hooks &hooks, Operation *op, skim_sim_function function) {
  Location loc = hooks.loc;
  Type type = op->getResult(0).getType(), element = getElementTypeOrSelf(type), f32 = builder.getF32Type();
  auto one = [&](ArrayRef<Value> inputs) -> Value {
    SmallVector<Value> wide;
    for (Value input : inputs)
      wide.push_back(element.isF32() ? input : Value(arith::ExtFOp::create(builder, loc, f32, input)));
    Value result = hooks.math(function, wide[0], wide.back());
    return element.isF32() ? result : Value(arith::TruncFOp::create(builder, loc, element, result));
  };
  auto vector = dyn_cast<VectorType>(type);
  if (!vector)
    return replace(op, one(llvm::to_vector(op->getOperands())));
  SmallVector<Value> results;
  for (int64_t i = 0; i < vector.getNumElements(); ++i) {
    SmallVector<Value> inputs;
    for (Value operand : op->getOperands())
      inputs.push_back(vector::ExtractOp::create(builder, loc, operand, ArrayRef<int64_t>{i}));
    results.push_back(one(inputs));
  }
  replace(op, vector::FromElementsOp::create(builder, loc, vector, results)->getResults());
}

bool Rewriter::rewriteIndex(Hooks &hooks, Operation *op) {
  Location loc = hooks.loc;
  auto at = [&](size_t base, int64_t dimension) {
    return hooks.field(static_cast<int64_t>(base) + 4 * dimension, hooks.i32());
  };
  auto product = [&](Value a, Value b) -> Value { return arith::MulIOp::create(builder, loc, a, b); };
  auto sum = [&](Value a, Value b) -> Value { return arith::AddIOp::create(builder, loc, a, b); };
  Value value;
  if (auto id = dyn_cast<gpu::ThreadIdOp>(op))
    value = at(offsetof(skim_sim_lane, thread), static_cast<int64_t>(id.getDimension()));
  else if (auto id = dyn_cast<gpu::BlockIdOp>(op))
    value = at(offsetof(skim_sim_lane, block), static_cast<int64_t>(id.getDimension()));
  else if (auto id = dyn_cast<gpu::BlockDimOp>(op))
    value = at(offsetof(skim_sim_lane, block_dim), static_cast<int64_t>(id.getDimension()));
  else if (auto id = dyn_cast<gpu::GridDimOp>(op))
    value = at(offsetof(skim_sim_lane, grid_dim), static_cast<int64_t>(id.getDimension()));
  else if (auto id = dyn_cast<gpu::GlobalIdOp>(op)) {
    int64_t dimension = static_cast<int64_t>(id.getDimension());
    value =
        sum(product(at(offsetof(skim_sim_lane, block), dimension), at(offsetof(skim_sim_lane, block_dim), dimension)),
            at(offsetof(skim_sim_lane, thread), dimension));
  } else if (isa<gpu::LaneIdOp, NVVM::LaneIdOp>(op))
    value = at(offsetof(skim_sim_lane, lane), 0);
  else if (isa<gpu::SubgroupIdOp>(op))
    value = at(offsetof(skim_sim_lane, warp), 0);
  else if (isa<gpu::SubgroupSizeOp, NVVM::WarpSizeOp>(op))
    value = hooks.i32(32);
  else if (isa<gpu::NumSubgroupsOp>(op)) {
    Value threads = hooks.i32(1);
    for (int64_t dimension = 0; dimension < 3; ++dimension)
      threads = product(threads, at(offsetof(skim_sim_lane, block_dim), dimension));
    value = arith::DivUIOp::create(builder, loc, sum(threads, hooks.i32(31)), hooks.i32(32));
  } else {
    StringRef name = op->getName().getStringRef();
    if (!name.consume_front("nvvm.read.ptx.sreg."))
      return false;
    auto [base, dimension] = name.rsplit('.');
    size_t offset = llvm::StringSwitch<size_t>(base)
                        .Case("tid", offsetof(skim_sim_lane, thread))
                        .Case("ctaid", offsetof(skim_sim_lane, block))
                        .Case("ntid", offsetof(skim_sim_lane, block_dim))
                        .Case("nctaid", offsetof(skim_sim_lane, grid_dim));
    value = at(offset, dimension[0] - 'x');
  }
  if (op->getResult(0).getType().isIndex())
    value = arith::IndexCastUIOp::create(builder, loc, builder.getIndexType(), value);
  replace(op, value);
  return true;
}

void Rewriter::replaceByWords(Hooks &hooks, Operation *op, ArrayRef<Value> values) {
  Type type = op->getResult(0).getType();
  auto structure = dyn_cast<LLVM::LLVMStructType>(type);
  if (!structure)
    return replace(op, hooks.fromWord(values[0], type));
  Value all = LLVM::PoisonOp::create(builder, hooks.loc, type);
  for (auto [index, member] : llvm::enumerate(structure.getBody()))
    all = LLVM::InsertValueOp::create(builder, hooks.loc, all, hooks.fromWord(values[index], member),
                                      ArrayRef<int64_t>{static_cast<int64_t>(index)});
  replace(op, all);
}

bool Rewriter::rewriteCollective(Hooks &hooks, Operation *op) {
  Location loc = hooks.loc;
  int64_t id = numbers.lookup(op);
  auto all = [&] { return hooks.i32(-1); };
  if (isa<gpu::BarrierOp, NVVM::Barrier0Op>(op)) {
    hooks.collective(id, {hooks.i32(0), hooks.i32(0)}, 0);
    op->erase();
  } else if (auto barrier = dyn_cast<NVVM::BarrierOp>(op)) {
    Value number = barrier.getBarrierId() ? barrier.getBarrierId() : hooks.i32(0);
    Value threads = barrier.getNumberOfThreads() ? barrier.getNumberOfThreads() : hooks.i32(0);
    hooks.collective(id, {number, threads}, 0);
    op->erase();
  } else if (auto sync = dyn_cast<NVVM::SyncWarpOp>(op)) {
    hooks.collective(id, {sync.getMask()}, 0);
    op->erase();
  } else if (auto shuffle = dyn_cast<gpu::ShuffleOp>(op)) {
    // As GPUToNVVM lowers it.
    Value idle = arith::SubIOp::create(builder, loc, hooks.i32(32), shuffle.getWidth());
    Value members = arith::ShRUIOp::create(builder, loc, all(), idle);
    Value clamp = shuffle.getMode() == gpu::ShuffleMode::UP
                      ? idle
                      : Value(arith::SubIOp::create(builder, loc, shuffle.getWidth(), hooks.i32(1)));
    SmallVector<Value> out =
        hooks.collective(id, {members, hooks.toWord(shuffle.getValue()), shuffle.getOffset(), clamp}, 2);
    replace(op, {hooks.fromWord(out[0], shuffle.getValue().getType()), hooks.fromWord(out[1], builder.getI1Type())});
  } else if (auto shuffle = dyn_cast<NVVM::ShflOp>(op)) {
    replaceByWords(hooks, op,
                   hooks.collective(id,
                                    {shuffle.getThreadMask(), hooks.toWord(shuffle.getVal()), shuffle.getOffset(),
                                     shuffle.getMaskAndClamp()},
                                    2));
  } else if (auto vote = dyn_cast<NVVM::VoteSyncOp>(op)) {
    replaceByWords(hooks, op, hooks.collective(id, {vote.getMask(), hooks.toWord(vote.getPred())}, 1));
  } else if (auto redux = dyn_cast<NVVM::ReduxOp>(op)) {
    replaceByWords(hooks, op, hooks.collective(id, {redux.getMaskAndClamp(), redux.getVal()}, 1));
  } else if (auto elect = dyn_cast<NVVM::ElectSyncOp>(op)) {
    replaceByWords(hooks, op, hooks.collective(id, {elect.getMembermask() ? elect.getMembermask() : all()}, 1));
  } else if (auto load = dyn_cast<NVVM::LdMatrixOp>(op)) {
    Value address = arith::TruncIOp::create(builder, loc, hooks.i32(), hooks.address(load.getPtr()));
    replaceByWords(hooks, op, hooks.collective(id, {address}, load.getNum()));
  } else if (auto mma = dyn_cast<NVVM::MmaOp>(op)) {
    unsigned results = cast<LLVM::LLVMStructType>(mma.getType()).getBody().size();
    replaceByWords(hooks, op, hooks.collective(id, wordsOf(hooks, op->getOperands()), results));
  } else if (auto copy = dyn_cast<NVVM::CpAsyncOp>(op)) {
    Value bytes = copy.getCpSize() ? copy.getCpSize() : hooks.i32(copy.getSize());
    hooks.copy(id, hooks.address(copy.getDst()), hooks.address(copy.getSrc()), bytes);
    op->erase();
  } else if (auto text = inlinePtxOf(op); text && text->isWarpgroup()) {
    rewriteWarpgroup(hooks, op, *text);
  } else if (isa<NVVM::WgmmaGroupSyncAlignedOp, NVVM::FenceProxyOp>(op)) {
    hooks.collective(id, {}, 0);
    op->erase();
  } else if (isa<NVVM::CpAsyncCommitGroupOp, NVVM::CpAsyncWaitGroupOp>(op)) {
    hooks.group(id);
    op->erase();
  } else {
    return false;
  }
  return true;
}

/// prmt in mode default: byte i of the result is byte n of hi:lo, n the low three
/// bits of nibble i, or its sign where the nibble's highest bit is set.
static Value permuteBytes(Hooks &hooks, Value lo, Value hi, Value selector) {
  OpBuilder &builder = hooks.builder;
  Location loc = hooks.loc;
  auto wide = [&](Value value) -> Value { return arith::ExtUIOp::create(builder, loc, hooks.i64(), value); };
  Value pool =
      arith::OrIOp::create(builder, loc, wide(lo), arith::ShLIOp::create(builder, loc, wide(hi), hooks.i64(32)));
  Value result = hooks.i32(0);
  for (int i = 0; i < 4; ++i) {
    Value nibble = arith::ShRUIOp::create(builder, loc, selector, hooks.i32(4 * i));
    Value index = wide(arith::AndIOp::create(builder, loc, nibble, hooks.i32(7)));
    Value shift = arith::ShLIOp::create(builder, loc, index, hooks.i64(3));
    Value byte =
        arith::TruncIOp::create(builder, loc, builder.getI8Type(), arith::ShRUIOp::create(builder, loc, pool, shift));
    Value sign = arith::ShRSIOp::create(builder, loc, byte,
                                        arith::ConstantOp::create(builder, loc, builder.getI8IntegerAttr(7)));
    Value replicate = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ne,
                                            arith::AndIOp::create(builder, loc, nibble, hooks.i32(8)), hooks.i32(0));
    Value chosen = arith::SelectOp::create(builder, loc, replicate, sign, byte);
    Value placed = arith::ShLIOp::create(builder, loc, arith::ExtUIOp::create(builder, loc, hooks.i32(), chosen),
                                         hooks.i32(8 * i));
    result = arith::OrIOp::create(builder, loc, result, placed);
  }
  return result;
}

/// dp4a and dp2a: elements of a from 0, of b from `first`.
static Value dot(Hooks &hooks, Value a, NVVM::DotAccumulateType typeA, Value b, NVVM::DotAccumulateType typeB, Value c,
                 int64_t first, int64_t count) {
  OpBuilder &builder = hooks.builder;
  auto extend = [&](Value vector, int64_t index, NVVM::DotAccumulateType type) -> Value {
    Value element = vector::ExtractOp::create(builder, hooks.loc, vector, ArrayRef<int64_t>{index});
    if (type == NVVM::DotAccumulateType::SIGNED)
      return arith::ExtSIOp::create(builder, hooks.loc, hooks.i32(), element);
    return arith::ExtUIOp::create(builder, hooks.loc, hooks.i32(), element);
  };
  for (int64_t i = 0; i < count; ++i)
    c = arith::AddIOp::create(
        builder, hooks.loc, c,
        arith::MulIOp::create(builder, hooks.loc, extend(a, i, typeA), extend(b, first + i, typeB)));
  return c;
}

bool Rewriter::rewriteArithmetic(Hooks &hooks, Operation *op) {
  Location loc = hooks.loc;
  auto reciprocal = [&](Value value) -> Value {
    Value one = arith::ConstantOp::create(builder, loc, builder.getF32FloatAttr(1));
    return arith::DivFOp::create(builder, loc, one, value);
  };
  static const llvm::StringMap<skim_sim_function> functions = {
      {"math.exp", SKIM_SIM_EXP},     {"math.exp2", SKIM_SIM_EXP2},   {"math.expm1", SKIM_SIM_EXPM1},
      {"math.log", SKIM_SIM_LOG},     {"math.log2", SKIM_SIM_LOG2},   {"math.log10", SKIM_SIM_LOG10},
      {"math.log1p", SKIM_SIM_LOG1P}, {"math.sin", SKIM_SIM_SIN},     {"math.cos", SKIM_SIM_COS},
      {"math.tanh", SKIM_SIM_TANH},   {"math.erf", SKIM_SIM_ERF},     {"math.rsqrt", SKIM_SIM_RSQRT},
      {"math.powf", SKIM_SIM_POW},    {"math.atan2", SKIM_SIM_ATAN2}, {"ex2", SKIM_SIM_EXP2},
      {"lg2", SKIM_SIM_LOG2},         {"rsqrt", SKIM_SIM_RSQRT},      {"sin", SKIM_SIM_SIN},
      {"cos", SKIM_SIM_COS}};
  if (auto found = functions.find(op->getName().getStringRef()); found != functions.end()) {
    rewriteMath(hooks, op, found->second);
  } else if (auto intrinsic = dyn_cast<LLVM::CallIntrinsicOp>(op)) {
    StringRef name = intrinsic.getIntrin().drop_front(strlen("llvm.nvvm.")).split('.').first;
    if (name == "rcp")
      replace(op, reciprocal(op->getOperand(0)));
    else
      rewriteMath(hooks, op, functions.lookup(name));
  } else if (isa<LLVM::FMAOp, math::FmaOp>(op) &&
             getElementTypeOrSelf(op->getResult(0).getType()).getIntOrFloatBitWidth() == 16) {
    // In f32, where products of halves are exact. (The sum is rounded twice: once in 2^11 or so it is off by one.)
    Type type = op->getResult(0).getType(), wide = builder.getF32Type();
    if (auto vector = dyn_cast<VectorType>(type))
      wide = vector.clone(wide);
    SmallVector<Value> inputs;
    for (Value operand : op->getOperands())
      inputs.push_back(arith::ExtFOp::create(builder, loc, wide, operand));
    Value sum = math::FmaOp::create(builder, loc, inputs[0], inputs[1], inputs[2]);
    replace(op, arith::TruncFOp::create(builder, loc, type, sum)->getResults());
  } else if (isa<NVVM::RcpApproxFtzF32Op>(op)) {
    replace(op, reciprocal(op->getOperand(0)));
  } else if (auto text = inlinePtxOf(op)) {
    rewriteText(hooks, op, *text, op->getOperands());
  } else if (auto prmt = dyn_cast<NVVM::PermuteOp>(op)) {
    replace(op, permuteBytes(hooks, prmt.getLo(), prmt.getHi() ? prmt.getHi() : hooks.i32(0), prmt.getSelector()));
  } else if (auto four = dyn_cast<NVVM::DotAccumulate4WayOp>(op)) {
    replace(op, dot(hooks, four.getA(), four.getAType(), four.getB(), four.getBType(), four.getC(), 0, 4));
  } else if (auto two = dyn_cast<NVVM::DotAccumulate2WayOp>(op)) {
    replace(op,
            dot(hooks, two.getA(), two.getAType(), two.getB(), two.getBType(), two.getC(), two.getBHi() ? 2 : 0, 2));
  } else if (auto address = dyn_cast<LLVM::AddressOfOp>(op)) {
    Value offset = hooks.i64(SKIM_SIM_SHARED_BASE + sharedOffsets.lookup(address.getGlobalName()));
    replace(op, LLVM::IntToPtrOp::create(builder, loc, address.getType(), offset)->getResults());
  } else if (isa<NVVM::MembarOp, NVVM::PrefetchOp, LLVM::Prefetch, LLVM::FenceOp>(op)) {
    op->erase(); // lanes see memory in the order in which they go on
  } else if (isa<gpu::ReturnOp>(op)) {
    func::ReturnOp::create(builder, loc);
    op->erase();
  } else {
    return false;
  }
  return true;
}

void Rewriter::rewrite(Operation *op) {
  if (isa<scf::ForOp, scf::WhileOp>(op)) {
    if (numbers.contains(op))
      rewriteLoop(op);
    return;
  }
  builder.setInsertionPoint(op);
  Hooks hooks = hooksAt(op->getLoc());
  if (accessOf(op))
    return rewriteMemory(hooks, op);
  if (isa<gpu::GPUDialect, NVVM::NVVMDialect, LLVM::LLVMDialect, math::MathDialect>(op->getDialect()))
    (void)(rewriteCollective(hooks, op) || rewriteArithmetic(hooks, op) || rewriteIndex(hooks, op));
}

LogicalResult simulate::rewriteKernel(gpu::GPUFuncOp kernel, ModuleOp into, const std::string &symbol,
                                      Json &description) {
  return Rewriter(kernel, into, symbol).run(description);
}
