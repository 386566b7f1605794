//===- Lane.td - the whole dialect, for documentation and tools ------------===//
include "skim/Lane/LaneDialect.td"
include "skim/Lane/LaneOps.td"
