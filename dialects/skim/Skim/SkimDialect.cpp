#include "skim/Skim/SkimDialect.h"

#include "skim/Skim/SkimBytecode.h"
#include "skim/Skim/SkimEncodings.h"
#include "skim/Skim/SkimOps.h"

using namespace mlir;

#include "skim/Skim/SkimDialect.cpp.inc"

void skim::SkimDialect::initialize() {
  registerEncodings();
  addBytecodeInterface(*this);
  addOperations<
#define GET_OP_LIST
#include "skim/Skim/SkimOps.cpp.inc"
      >();
}
