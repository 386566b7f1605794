#ifndef SKIM_LM_LMOPS_H
#define SKIM_LM_LMOPS_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "skim/LM/LMDialect.h.inc"

#define GET_OP_CLASSES
#include "skim/LM/LMOps.h.inc"

#endif // SKIM_LM_LMOPS_H
