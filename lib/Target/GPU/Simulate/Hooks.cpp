//===- Hooks.cpp - calls of skim_sim_hooks ----------------------------------===//

#include "Simulate.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

#include <cstddef>

using namespace mlir;
using namespace skim;
using namespace skim::simulate;

Value Hooks::i32(int64_t value) { return arith::ConstantOp::create(builder, loc, builder.getI32IntegerAttr(value)); }
Value Hooks::i64(int64_t value) { return arith::ConstantOp::create(builder, loc, builder.getI64IntegerAttr(value)); }

Value Hooks::at(Value pointer, int64_t offset) {
  if (offset == 0)
    return pointer;
  return LLVM::GEPOp::create(builder, loc, ptr(), builder.getI8Type(), pointer,
                             ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(offset)});
}

Value Hooks::field(int64_t offset, Type type) {
  // Nobody changes it while the lane runs.
  return LLVM::LoadOp::create(builder, loc, type, at(lane, offset), /*alignment=*/0, /*isVolatile=*/false,
                              /*isNonTemporal=*/false, /*isInvariant=*/true);
}

Value Hooks::address(Value pointer) { return LLVM::PtrToIntOp::create(builder, loc, i64(), pointer); }

Value Hooks::toWord(Value value) {
  if (value.getType().isInteger(32))
    return value;
  if (value.getType().isInteger(1))
    return arith::ExtUIOp::create(builder, loc, i32(), value);
  return LLVM::BitcastOp::create(builder, loc, i32(), value);
}

Value Hooks::fromWord(Value word, Type type) {
  if (type.isInteger(32))
    return word;
  if (type.isInteger(1))
    return arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ne, word, i32(0));
  return LLVM::BitcastOp::create(builder, loc, type, word);
}

LLVM::CallOp Hooks::call(int64_t hook, Type result, ArrayRef<Value> arguments) {
  Value table = field(offsetof(skim_sim_lane, hooks), ptr());
  Value function = LLVM::LoadOp::create(builder, loc, ptr(), at(table, hook), /*alignment=*/0, /*isVolatile=*/false,
                                        /*isNonTemporal=*/false, /*isInvariant=*/true);
  SmallVector<Value> operands = {function};
  operands.append(arguments.begin(), arguments.end());
  SmallVector<Type> types;
  for (Value argument : arguments)
    types.push_back(argument.getType());
  auto type = LLVM::LLVMFunctionType::get(result ? result : LLVM::LLVMVoidType::get(builder.getContext()), types);
  return LLVM::CallOp::create(builder, loc, type, operands);
}

Value Hooks::access(int64_t op, Value address) {
  return call(offsetof(skim_sim_hooks, access), ptr(), {lane, i32(op), address}).getResult();
}
void Hooks::copy(int64_t op, Value shared, Value global, Value bytes) {
  call(offsetof(skim_sim_hooks, copy), {}, {lane, i32(op), shared, global, bytes});
}
void Hooks::group(int64_t op) { call(offsetof(skim_sim_hooks, group), {}, {lane, i32(op)}); }
void Hooks::loop(int64_t op, int64_t phase) { call(offsetof(skim_sim_hooks, loop), {}, {lane, i32(op), i32(phase)}); }

Value Hooks::math(skim_sim_function function, Value a, Value b) {
  return call(offsetof(skim_sim_hooks, math), builder.getF32Type(), {i32(function), a, b}).getResult();
}

SmallVector<Value> Hooks::collective(int64_t op, ArrayRef<Value> in, unsigned results) {
  for (auto [index, word] : llvm::enumerate(in))
    LLVM::StoreOp::create(builder, loc, word, at(words, 4 * index), 4);
  Value out = at(words, 4 * capacity);
  call(offsetof(skim_sim_hooks, collective), {}, {lane, i32(op), words, out});
  SmallVector<Value> values;
  for (unsigned i = 0; i < results; ++i)
    values.push_back(LLVM::LoadOp::create(builder, loc, i32(), at(out, 4 * i), 4));
  return values;
}
