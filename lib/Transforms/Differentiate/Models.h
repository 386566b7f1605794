//===- Models.h - derivatives of operations, by dialect ---------*- C++ -*-===//
#ifndef SKIM_LIB_TRANSFORMS_DIFFERENTIATE_MODELS_H
#define SKIM_LIB_TRANSFORMS_DIFFERENTIATE_MODELS_H

#include "mlir/IR/DialectRegistry.h"
#include "skim/Transforms/DifferentiableOpInterface.h"

namespace skim {

/// The external model whose emitAdjoint is the function `emit(OpT, Adjoints &)`.
template <typename OpT, auto emit>
struct AdjointModel : DifferentiableOpInterface::ExternalModel<AdjointModel<OpT, emit>, OpT> {
  llvm::LogicalResult emitAdjoint(mlir::Operation *op, Adjoints &adjoints) const {
    return emit(llvm::cast<OpT>(op), adjoints);
  }
};

/// Attaches such a function.
template <typename OpT, llvm::LogicalResult (*emit)(OpT, Adjoints &)> void attachAdjoint(mlir::MLIRContext *context) {
  OpT::template attachInterface<AdjointModel<OpT, emit>>(*context);
}

void registerElementwiseModels(mlir::DialectRegistry &registry);
void registerTensorModels(mlir::DialectRegistry &registry);
void registerLinalgModels(mlir::DialectRegistry &registry);
void registerLMModels(mlir::DialectRegistry &registry);
/// Of lm.attention, whose context is loaded.
void attachAttentionModel(mlir::MLIRContext *context);
void registerSkimModels(mlir::DialectRegistry &registry);

} // namespace skim

#endif // SKIM_LIB_TRANSFORMS_DIFFERENTIATE_MODELS_H
