//===- WrapForHost.cpp - what compiled code and its host call each other by -===//

#include "TensorPasses.h"

#include "mlir/Conversion/LLVMCommon/MemRefBuilder.h"
#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;

namespace {
class WrapForHost : public PassWrapper<WrapForHost, OperationPass<ModuleOp>> {
public:
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(WrapForHost)
  StringRef getName() const override { return "WrapForHost"; }
  void getDependentDialects(DialectRegistry &registry) const override { registry.insert<LLVM::LLVMDialect>(); }

  void runOnOperation() override {
    MLIRContext *context = &getContext();
    pointer = LLVM::LLVMPointerType::get(context);
    i64 = IntegerType::get(context, 64);
    f32 = Float32Type::get(context);
    SmallVector<func::FuncOp> functions;
    for (func::FuncOp function : getOperation().getOps<func::FuncOp>())
      if (function.isPublic() && !function.isExternal())
        functions.push_back(function);
    addHost();
    for (func::FuncOp function : functions)
      wrap(function);
  }

private:
  /// Functions that jump through the host's table: entry `index` of TensorHost.
  void addForwarder(OpBuilder &b, StringRef name, int32_t index, TypeRange arguments, Type result) {
    Location loc = b.getUnknownLoc();
    auto type = LLVM::LLVMFunctionType::get(result ? result : LLVM::LLVMVoidType::get(b.getContext()),
                                            llvm::to_vector(arguments));
    auto function = LLVM::LLVMFuncOp::create(b, loc, name, type);
    SymbolTable::setSymbolVisibility(function, SymbolTable::Visibility::Private);
    // Inlined, an allocation would no longer be known to be one.
    function.setNoInline(true);
    if (result)
      function.setResultAttr(0, LLVM::LLVMDialect::getNoAliasAttrName(), b.getUnitAttr());
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(function.addEntryBlock(b));
    Value global = LLVM::AddressOfOp::create(b, loc, pointer, skim::kHostGlobal);
    Value table = LLVM::LoadOp::create(b, loc, pointer, global);
    Value entry = LLVM::GEPOp::create(b, loc, pointer, pointer, table, ArrayRef<LLVM::GEPArg>{index});
    SmallVector<Value> operands{LLVM::LoadOp::create(b, loc, pointer, entry)};
    llvm::append_range(operands, function.getArguments());
    auto call = LLVM::CallOp::create(b, loc, type, operands);
    LLVM::ReturnOp::create(b, loc, call.getResults());
  }

  void addHost() {
    OpBuilder b = OpBuilder::atBlockBegin(getOperation().getBody());
    Location loc = b.getUnknownLoc();
    auto global = LLVM::GlobalOp::create(b, loc, pointer, /*isConstant=*/false, LLVM::Linkage::Internal,
                                         skim::kHostGlobal, Attribute());
    {
      OpBuilder::InsertionGuard guard(b);
      b.createBlock(&global.getInitializerRegion());
      LLVM::ReturnOp::create(b, loc, ValueRange(LLVM::ZeroOp::create(b, loc, pointer)));
    }
    auto setter = LLVM::LLVMFuncOp::create(
        b, loc, skim::kSetHost, LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(&getContext()), {pointer}));
    {
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(setter.addEntryBlock(b));
      Value place = LLVM::AddressOfOp::create(b, loc, pointer, skim::kHostGlobal);
      LLVM::StoreOp::create(b, loc, setter.getArgument(0), place);
      LLVM::ReturnOp::create(b, loc, ValueRange());
    }
    // The names by which upstream's lowering of memrefs allocates.
    addForwarder(b, "_mlir_memref_to_llvm_alloc", 0, {i64}, pointer);
    addForwarder(b, "_mlir_memref_to_llvm_free", 1, {pointer}, Type());
    addForwarder(b, skim::kProduct, 2, {i64, i64, i64, pointer, i64, i64, pointer, i64, i64, pointer, i64, i64},
                 Type());
  }

  /// A row-major buffer at `data`, whose unknown sizes are `size`.
  Value describe(OpBuilder &b, Location loc, const LLVMTypeConverter &converter, MemRefType type, Value data,
                 Value size) {
    MemRefDescriptor descriptor = MemRefDescriptor::poison(b, loc, converter.convertType(type));
    descriptor.setAllocatedPtr(b, loc, data);
    descriptor.setAlignedPtr(b, loc, data);
    descriptor.setConstantOffset(b, loc, 0);
    auto constant = [&](int64_t value) -> Value { return LLVM::ConstantOp::create(b, loc, i64, value); };
    Value stride = constant(1);
    for (int64_t d = type.getRank() - 1; d >= 0; --d) {
      Value extent = type.isDynamicDim(d) ? size : constant(type.getDimSize(d));
      descriptor.setSize(b, loc, d, extent);
      descriptor.setStride(b, loc, d, stride);
      stride = LLVM::MulOp::create(b, loc, stride, extent);
    }
    Value value = descriptor;
    return UnrealizedConversionCastOp::create(b, loc, type, value).getResult(0);
  }

  void wrap(func::FuncOp inner) {
    std::string name = inner.getName().str();
    inner.setName(name + ".body");
    inner.setPrivate();
    OpBuilder b(inner);
    Location loc = inner.getLoc();
    auto outer = func::FuncOp::create(b, loc, name, b.getFunctionType({pointer, i64}, {}));
    b.setInsertionPointToStart(outer.addEntryBlock());
    LLVMTypeConverter converter(&getContext());
    SmallVector<Value> arguments;
    for (auto [i, type] : llvm::enumerate(inner.getArgumentTypes())) {
      Value entry = LLVM::GEPOp::create(b, loc, pointer, pointer, outer.getArgument(0),
                                        ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(i)});
      Value data = LLVM::LoadOp::create(b, loc, pointer, entry);
      arguments.push_back(describe(b, loc, converter, cast<MemRefType>(type), data, outer.getArgument(1)));
    }
    func::CallOp::create(b, loc, inner, arguments);
    func::ReturnOp::create(b, loc);
  }

  Type pointer, i64, f32;
};
} // namespace

std::unique_ptr<Pass> skim::createWrapForHost() { return std::make_unique<WrapForHost>(); }
