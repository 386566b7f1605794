//===- SelfGenerated.h - text that a model itself writes --------*- C++ -*-===//
#ifndef SKIM_TOOLS_SELFGENERATED_H
#define SKIM_TOOLS_SELFGENERATED_H

#include "skim/Pipelines/Calibrate.h"

namespace skim::tool {

/// options.sequences sequences of options.length tokens that the unquantized
/// model samples at temperature 1, each from its own seed: the same ids for the
/// same options. Compiles a package in a temporary folder and runs `skim run`.
Expected<std::vector<std::vector<int32_t>>> generateSequences(const CalibrateModelOptions &options);

} // namespace skim::tool

#endif // SKIM_TOOLS_SELFGENERATED_H
