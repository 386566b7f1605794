//===- Decode.h - the value of an encoded weight, slowly --------*- C++ -*-===//
#ifndef SKIM_REFERENCE_DECODE_H
#define SKIM_REFERENCE_DECODE_H

#include "skim/Skim/SkimEncodings.h"

#include <vector>

namespace skim {

/// The values, row-major, of a weight of logical shape [N, K], each computed in
/// double as the term's equation in SkimEncodings.td says and rounded once to
/// f32. `components` are the bytes of getComponents(term, shape), in that order.
/// This is the oracle: every kernel and quantizer is compared with it, so it
/// shares no code with them. Asks for nothing but correct sizes; with wrong
/// ones, a permutation that is none or a term that it does not know it returns
/// an empty vector (never one for a valid weight, since N and K are positive).
std::vector<float> decodeWeight(WeightEncoding term, llvm::ArrayRef<int64_t> shape,
                                llvm::ArrayRef<llvm::ArrayRef<uint8_t>> components);

} // namespace skim

#endif // SKIM_REFERENCE_DECODE_H
