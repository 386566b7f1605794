//===- Budget.h - what a budget is spent on ---------------------*- C++ -*-===//
#ifndef SKIM_LIB_PIPELINES_BUDGET_H
#define SKIM_LIB_PIPELINES_BUDGET_H

#include "skim/Pipelines/Build.h"

#include "mlir/IR/BuiltinOps.h"

#include <string>
#include <vector>

namespace skim {

/// The single formats that `rtn`, `gptq`, `awq` and `kmeans` choose among for a
/// budget.
std::vector<std::string> singleFormats(const std::string &method);

/// Bytes that fill up the last tiles of rows where a GPU maps the weights that the module plans (`skim.encoding`).
uint64_t fillingBytes(mlir::ModuleOp module);

/// What a dry run says of a module's plan.
void reportPlan(mlir::ModuleOp module, BuildReport &report);

} // namespace skim

#endif // SKIM_LIB_PIPELINES_BUDGET_H
