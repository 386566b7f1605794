#ifndef SKIM_SKIM_SKIMDIALECT_H
#define SKIM_SKIM_SKIMDIALECT_H

#include "mlir/IR/Dialect.h"

#include "skim/Skim/SkimDialect.h.inc"

#endif // SKIM_SKIM_SKIMDIALECT_H
