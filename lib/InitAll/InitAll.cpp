#include "skim/InitAll.h"

#include "mlir/IR/DialectRegistry.h"
#include "skim/Conversion/LinalgToSkim.h"
#include "skim/Conversion/ONNXToLM.h"
#include "skim/Conversion/SkimToUpstream.h"
#include "skim/LM/LMOps.h"
#include "skim/Lane/LaneOps.h"
#include "skim/ONNX/ONNXOps.h"
#include "skim/Skim/SkimDialect.h"
#include "skim/Target/CPU/AssignLayouts.h"
#include "skim/Target/CPU/GenerateCPU.h"
#include "skim/Target/GPU/GenerateGPULinear.h"
#include "skim/Target/GPU/SimulateGPU.h"
#include "skim/Transforms/AllocateBits.h"
#include "skim/Transforms/AssignEncodings.h"
#include "skim/Transforms/AssignModes.h"
#include "skim/Transforms/CheckFusion.h"
#include "skim/Transforms/Differentiate.h"
#include "skim/Transforms/FuseLinears.h"
#include "skim/Transforms/LowerLane.h"
#include "skim/Transforms/OutlineBlocks.h"
#include "skim/Transforms/QuantizeWeights.h"
#include "skim/Transforms/VerifyCache.h"
#include "skim/Transforms/VerifyEncodings.h"

void skim::registerAllDialects(mlir::DialectRegistry &registry) {
  registry.insert<SkimDialect, lane::LaneDialect, lm::LMDialect, onnx::ONNXDialect>();
  registerDifferentiableModels(registry);
}

void skim::registerAllPasses() {
  registerAllocateBits();
  registerAssignEncodings();
  registerAssignLayouts();
  registerAssignModes();
  registerONNXToLM();
  registerCheckFusion();
  registerDifferentiate();
  registerFuseLinears();
  registerGenerateCPU();
  registerGenerateGPULinear();
  registerLinalgToSkim();
  registerLowerGPUPipeline();
  registerLowerLane();
  registerOutlineBlocks();
  registerQuantizeWeights();
  registerSimulateGPU();
  registerSkimToUpstream();
  registerVerifyCache();
  registerVerifyEncodings();
}
