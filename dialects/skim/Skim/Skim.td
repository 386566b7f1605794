//===- Skim.td - the whole dialect, for documentation and tools ------------===//
include "skim/Skim/SkimDialect.td"
include "skim/Skim/SkimInterfaces.td"
include "skim/Skim/SkimEncodings.td"
include "skim/Skim/SkimOps.td"
