#ifndef SKIM_SKIM_SKIMOPS_H
#define SKIM_SKIM_SKIMOPS_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "skim/Skim/SkimDialect.h"
#include "skim/Skim/SkimEncodings.h"

#define GET_OP_CLASSES
#include "skim/Skim/SkimOps.h.inc"

#endif // SKIM_SKIM_SKIMOPS_H
