//===- Decoders.h - one factory a leaf --------------------------*- C++ -*-===//
#ifndef SKIM_LIB_TARGET_CPU_DECODE_DECODERS_H
#define SKIM_LIB_TARGET_CPU_DECODE_DECODERS_H

#include "skim/Target/CPU/Decoder.h"

namespace skim {

std::unique_ptr<Decoder> makeDenseDecoder(DenseAttr attr, DecodeContext context);
std::unique_ptr<Decoder> makeUniformDecoder(UniformAttr attr, DecodeContext context);
std::unique_ptr<Decoder> makeCodebookDecoder(CodebookAttr attr, DecodeContext context);
std::unique_ptr<Decoder> makeBlockFloatDecoder(BlockFloatAttr attr, DecodeContext context);
std::unique_ptr<Decoder> makePlanesDecoder(PlanesAttr attr, DecodeContext context);

/// Bytes of a row of k codes.
inline int64_t codeBytes(int64_t k, int64_t bits) { return (k * bits + 7) / 8; }

} // namespace skim

#endif // SKIM_LIB_TARGET_CPU_DECODE_DECODERS_H
