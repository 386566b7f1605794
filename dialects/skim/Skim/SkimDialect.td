//===- SkimDialect.td - the skim dialect --------------------*- tablegen -*-===//
#ifndef SKIM_SKIM_DIALECT_TD
#define SKIM_SKIM_DIALECT_TD

include "mlir/IR/OpBase.td"

def Skim_Dialect : Dialect {
  let name = "skim";
  let cppNamespace = "::skim";
  let summary = "quantized weights as tensor encodings";
  let description = [{
    A quantized weight keeps its logical type and carries its format as a
    tensor encoding: `tensor<48x64xf16, #skim.codebook<bits = 3>>`. Encodings
    form an algebra, `weight := low_rank? scaled? rows? leaf`, each combinator
    at most once and in this order. Codes, tables, scales and factors are SSA
    operands (`skim.assemble`), never part of a type; large constants stay in
    files (`skim.external`).

    An encoded tensor may be an operand or a result of `skim.*`, `func`, `scf`
    and `lm` cache operations only, since any other operation would read packed
    bytes as numbers; `skim-verify-encodings` checks it.
  }];
  let useDefaultAttributePrinterParser = 1;
  let extraClassDeclaration = [{
    void registerEncodings();
  }];
}

#endif
