#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "skim/Lane/LaneOps.h"

#include "skim/Lane/LaneDialect.cpp.inc"

void skim::lane::LaneDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "skim/Lane/LaneOps.cpp.inc"
      >();
}
