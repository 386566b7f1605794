//===- ModelValues.h - what a step's generators ask of a model --*- C++ -*-===//
#ifndef SKIM_TARGET_COMMON_MODELVALUES_H
#define SKIM_TARGET_COMMON_MODELVALUES_H

#include "skim/Support/Error.h"

#include "mlir/IR/Operation.h"

#include <string>

namespace skim {

/// A type as it is printed.
std::string spell(mlir::Type type);
/// A number as part of a symbol's name.
std::string spellNumber(double value);
/// `fail(what, location of op, expected, got)`: `file:line`, or the name of the ONNX node.
Failure failAt(mlir::Operation *op, std::string what, std::string expected, std::string got);

/// The value behind conversions between float types: code reads what is stored there.
mlir::Value behindConversions(mlir::Value value);
/// Whether it is a skim.external or constant of static shape.
bool isConstantTensor(mlir::Value value);
/// The name of a skim.external, or empty.
std::string externalName(mlir::Value value);

} // namespace skim

#endif // SKIM_TARGET_COMMON_MODELVALUES_H
