//===- ONNXToLM.h - raises an ONNX decoder to the lm dialect ----*- C++ -*-===//
#ifndef SKIM_CONVERSION_ONNXTOLM_H
#define SKIM_CONVERSION_ONNXTOLM_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include "skim/LM/LMOps.h"
#include "skim/Skim/SkimDialect.h"

namespace skim {

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "skim/Conversion/ONNXToLM.h.inc"

} // namespace skim

#endif // SKIM_CONVERSION_ONNXTOLM_H
