//===- Manifest.h - what a package says about itself ------------*- C++ -*-===//
#ifndef SKIM_LIB_PIPELINES_MANIFEST_H
#define SKIM_LIB_PIPELINES_MANIFEST_H

#include "mlir/IR/BuiltinOps.h"
#include "skim/Pipelines/Build.h"
#include "skim/Support/Json.h"
#include "skim/Target/CPU/Step.h"
#include "skim/Target/CPU/TargetInfo.h"
#include "skim/Target/GPU/Step.h"

#include <string>

namespace skim {

/// `cpu:x86-64-v4` as a folder name: `cpu-x86-64-v4`.
std::string targetFolder(const std::string &target);

/// The short name of a weight's encoding, or its element type where it is plain.
std::string formatName(mlir::Type type);

/// The files of a GPU's program inside the package; `kernels` (PTX) and `cubin` may be empty.
struct DeviceFiles {
  std::string code, weights, kernels, cubin;
};

/// Collects manifest.json (contract: "The package"); `folder` is the package in the making.
class Manifest {
public:
  /// The layers of the quantized module, with bits and bytes; fills `report` too.
  void addLayers(mlir::ModuleOp module, BuildReport &report);
  /// The activation modes of the layers, once a target chose them.
  void setModes(mlir::ModuleOp module);
  /// Hashes of the source model.
  Error addSource(const std::string &model);
  /// What an existing package says of its model, layers and tokenizer; fills `report` too.
  Error addFromPackage(const JsonCursor &manifest, BuildReport &report);
  /// Copies tokenizer files beside the model (or from `options.tokenizer`) and
  /// records begin and end tokens.
  Error addTokenizer(const BuildOptions &options, const std::string &folder);
  /// A target's program; `code` and `weights` are the names of its shared object
  /// and its weights inside the package.
  Error addTarget(const ProgramInfo &program, const TargetInfo &target, const std::string &folder,
                  const std::string &code, const std::string &weights);
  /// The same of a GPU; its shared object runs on `host`.
  Error addDevice(const device::StepProgram &program, const GPUTarget &target, const TargetInfo &host,
                  int64_t sampleScratch, const std::string &folder, const DeviceFiles &files);
  /// A target's entry as another package has it.
  void keepTarget(const std::string &name, const Json &entry) { json["targets"][name] = entry; }
  /// Adds sizes and hashes of all files and writes manifest.json.
  Error write(const BuildOptions &options, const std::string &folder);

private:
  Json json = Json::object();
};

} // namespace skim

#endif // SKIM_LIB_PIPELINES_MANIFEST_H
