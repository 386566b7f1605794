//===- Budget.h - what a budget is spent on ---------------------*- C++ -*-===//
#ifndef SKIM_LIB_PIPELINES_BUDGET_H
#define SKIM_LIB_PIPELINES_BUDGET_H

#include <string>
#include <vector>

namespace skim {

/// The single formats that `rtn`, `gptq`, `awq` and `kmeans` choose among for a
/// budget.
std::vector<std::string> singleFormats(const std::string &method);

} // namespace skim

#endif // SKIM_LIB_PIPELINES_BUDGET_H
