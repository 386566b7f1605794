# The one place that pins LLVM/MLIR. scripts/setup reads this line too.
set(SKIM_LLVM_VERSION 22)
