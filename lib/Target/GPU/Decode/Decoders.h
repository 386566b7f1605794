//===- Decoders.h - one decoder a leaf --------------------------*- C++ -*-===//
#ifndef SKIM_LIB_TARGET_GPU_DECODE_DECODERS_H
#define SKIM_LIB_TARGET_GPU_DECODE_DECODERS_H

#include "skim/Target/GPU/Decoder.h"

namespace skim::device {

std::unique_ptr<Decoder> makeDenseDecoder(DenseAttr attr, DecodeContext context);
std::unique_ptr<Decoder> makeUniformDecoder(UniformAttr attr, DecodeContext context);
std::unique_ptr<Decoder> makeCodebookDecoder(CodebookAttr attr, DecodeContext context);
std::unique_ptr<Decoder> makeBlockFloatDecoder(BlockFloatAttr attr, DecodeContext context);
std::unique_ptr<Decoder> makePlanesDecoder(PlanesAttr attr, DecodeContext context);

} // namespace skim::device

#endif // SKIM_LIB_TARGET_GPU_DECODE_DECODERS_H
