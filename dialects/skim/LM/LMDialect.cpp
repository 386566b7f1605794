#include "skim/LM/LMOps.h"

#include "skim/LM/LMDialect.cpp.inc"

void skim::lm::LMDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "skim/LM/LMOps.cpp.inc"
      >();
}
