//===- SkimBytecode.h - encodings in bytecode files -------------*- C++ -*-===//
#ifndef SKIM_SKIM_SKIMBYTECODE_H
#define SKIM_SKIM_SKIMBYTECODE_H

namespace skim {

class SkimDialect;

/// The version of the dialect that bytecode files carry. A change of an
/// attribute's or operation's form raises it, and the reader goes on reading
/// every older one (test/Dialect/Skim/compat holds a file of each).
inline constexpr unsigned skimBytecodeVersion = 1;

/// Lets the dialect write its encodings natively, with a version.
void addBytecodeInterface(SkimDialect &dialect);

} // namespace skim

#endif // SKIM_SKIM_SKIMBYTECODE_H
