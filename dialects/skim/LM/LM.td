//===- LM.td - the whole dialect, for documentation and tools --------------===//
include "skim/LM/LMDialect.td"
include "skim/LM/LMOps.td"
