//===- Code.h - kernels in the folder ---------------------------*- C++ -*-===//
//
// STEM.ptx.gz, and STEM.cubin where ptxas was there. PTX is text in which most
// lines have come before: of six chips it has 39 MB, compressed 7.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_TOOLS_GPUCHECK_CODE_H
#define SKIM_TOOLS_GPUCHECK_CODE_H

#include "skim/Support/Error.h"

#include <string>

namespace skim::gpucheck {

struct Code {
  std::string ptx, cubin; ///< machine code: may be empty
  std::string where;      ///< the PTX's file
};

/// Fails with the file and the system's reason.
Error writeCode(const std::string &stem, const std::string &ptx, const std::string &cubin);

/// Fails where the PTX is absent or damaged, or machine code can't be read.
Expected<Code> readCode(const std::string &stem);

} // namespace skim::gpucheck

#endif // SKIM_TOOLS_GPUCHECK_CODE_H
