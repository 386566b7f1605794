//===- Kernel.cpp - signatures, arguments, results --------------------------===//

#include "Schedules.h"

#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace skim;

std::string KernelSignature::name(StringRef schedule) const {
  std::string text = leaf.getShortName();
  for (char &c : text)
    if (!llvm::isAlnum(c))
      c = '_';
  std::string name = (schedule + "_" + text + "_k" + Twine(k) + (bf16 ? "_bf16" : "_f32")).str();
  if (epilogue == LinearEpilogue::Add)
    name += "_add";
  if (scaled)
    name += "_scaled";
  if (permutation)
    name += permutation.isInteger(16) ? "_rows16" : "_rows32";
  if (biased)
    name += "_bias";
  if (layout)
    name += ("_" + Twine(layout.getWord()) + "x" + Twine(layout.getLanes())).str();
  return name;
}

SmallVector<Value> KernelArguments::flatten() const {
  SmallVector<Value> all = {x, y, yStride, rows, n, priv, thread, threads};
  for (Value optional : {alpha, permutation, bias})
    if (optional)
      all.push_back(optional);
  all.append(components);
  return all;
}

std::string skim::getOrCreateKernel(OpBuilder &builder, Location loc, ModuleOp module, const KernelSignature &signature,
                                    StringRef schedule, size_t components,
                                    llvm::function_ref<void(KernelBuilder &, const KernelArguments &)> body) {
  std::string name = signature.name(schedule);
  OpBuilder::InsertionGuard guard(builder);
  KernelBuilder b(builder, loc);
  SmallVector<Type> types = {b.ptr(), b.ptr(), b.i64(), b.i64(), b.i64(), b.ptr(), b.i32(), b.i32()};
  types.append((signature.scaled ? 1 : 0) + (signature.permutation ? 1 : 0) + (signature.biased ? 1 : 0) + components,
               b.ptr());
  func::FuncOp function = KernelBuilder::beginFunction(builder, module, loc, name, types);
  if (!function)
    return name;
  auto arguments = function.getArguments();
  KernelArguments k;
  k.x = arguments[0];
  k.y = arguments[1];
  k.yStride = arguments[2];
  k.rows = arguments[3];
  k.n = arguments[4];
  k.priv = arguments[5];
  k.thread = arguments[6];
  k.threads = arguments[7];
  size_t next = 8;
  if (signature.scaled)
    k.alpha = arguments[next++];
  if (signature.permutation)
    k.permutation = arguments[next++];
  if (signature.biased)
    k.bias = arguments[next++];
  for (; next < arguments.size(); ++next)
    k.components.push_back(arguments[next]);
  body(b, k);
  return name;
}

/// value (+ bias) (+ y), as the epilogue and the place in a sum of blocks want it.
static void storeAt(KernelBuilder &b, const KernelSignature &signature, const KernelArguments &k, Value column,
                    Value xRow, Value value, Value isFirst) {
  Value zero = b.constant(value.getType(), 0);
  if (signature.biased) {
    Value bias = b.load(value.getType(), b.element(k.bias, column, b.f32()));
    value = b.add(value, isFirst ? b.select(isFirst, bias, zero) : bias);
  }
  Value at = b.element(k.y, b.add(b.mul(xRow, k.yStride), column), b.f32());
  if (signature.epilogue == LinearEpilogue::Add)
    value = b.add(b.load(value.getType(), at), value);
  else if (isFirst)
    value = b.add(b.select(isFirst, zero, b.load(value.getType(), at)), value);
  b.store(value, at);
}

void skim::storeResult(KernelBuilder &b, const KernelSignature &signature, const KernelArguments &k, Value weightRow,
                       Value xRow, Value value, Value isFirst) {
  Value column = weightRow;
  if (signature.permutation) {
    Value stored = b.load(signature.permutation, b.element(k.permutation, weightRow, signature.permutation));
    column = b.zeroExtend(stored, b.i64());
  }
  storeAt(b, signature, k, column, xRow, value, isFirst);
}

void skim::storeVector(KernelBuilder &b, const KernelSignature &signature, const KernelArguments &k, Value weightRow,
                       Value xRow, Value value, Value isFirst) {
  storeAt(b, signature, k, weightRow, xRow, value, isFirst);
}
