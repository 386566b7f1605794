//===- WeightsFile.h - weights in the layouts of targets --------*- C++ -*-===//
#ifndef SKIM_LIB_PIPELINES_WEIGHTSFILE_H
#define SKIM_LIB_PIPELINES_WEIGHTSFILE_H

#include "skim/Support/Json.h"
#include "skim/Target/CPU/Step.h"
#include "skim/Target/GPU/Step.h"

#include <map>
#include <string>

namespace skim {

/// The tensors of a weights file whose codes do not lie in rows, by name.
using StoredLayouts = std::map<std::string, TurnedCodes>;

/// What a program's code wants.
StoredLayouts layoutsOf(const ProgramInfo &program);

/// As a target's entry in the manifest has them: `{NAME: {"word", "lanes", "bits", "columns"}}`.
Json spellLayouts(const StoredLayouts &layouts);
/// From there; absent: none. What is read is checked to be a layout, and against
/// the tensors only when they are turned.
Expected<StoredLayouts> readLayouts(const JsonCursor &target);

/// Writes the tensors of the file `from`, which lie as `have` says, to `to` as
/// `want` says: same names, sizes and offsets. `to` may be `from`, which is then
/// replaced when it is complete.
Error rewriteWeights(const std::string &from, const StoredLayouts &have, const std::string &to,
                     const StoredLayouts &want, unsigned threads);

/// Writes what a device's kernels read to `to`, from the tensors of `from`, which
/// lie as `have` says. A weight may be there twice, in two forms.
Error writeDeviceWeights(const std::string &from, const StoredLayouts &have, const std::string &to,
                         const device::StepProgram &program, unsigned threads);

} // namespace skim

#endif // SKIM_LIB_PIPELINES_WEIGHTSFILE_H
