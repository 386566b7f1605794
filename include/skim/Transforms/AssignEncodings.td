#ifndef SKIM_TRANSFORMS_ASSIGNENCODINGS_TD
#define SKIM_TRANSFORMS_ASSIGNENCODINGS_TD

include "mlir/Pass/PassBase.td"

def AssignEncodings : Pass<"skim-assign-encodings", "::mlir::ModuleOp"> {
  let summary = "decides the encoding of every weight";
  let description = [{
    Puts an attribute `skim.encoding` on every `skim.linear` and `skim.embed`: the
    plan that `skim-quantize-weights` carries out. Linears get `format`; the head
    (a linear whose weight is also an embedding's, or named `lm_head`) and the
    embeddings stay in 16 bits unless `head` and `embeddings` say otherwise; tied
    weights stay tied. `keep` overrides single layers; the last match wins. A
    weight that arrives quantized keeps its codes unless `requantize`.
    Without `format` every weight stays as it is, or with `open` is left to
    skim-allocate-bits. With `plan` linears get the terms of a plan's file.
  }];
  let options = [
    Option<"format", "format", "std::string", /*default=*/"\"\"", "term for the linears (`w4g128`, `#skim.…`)">,
    Option<"head", "head", "std::string", "\"\"", "term for the head">,
    Option<"embeddings", "embeddings", "std::string", "\"\"", "term for the embeddings">,
    ListOption<"keep", "keep", "std::string", "REGEX=TERM: these layers get TERM">,
    Option<"plan", "plan", "std::string", "\"\"", "a plan with the terms of linears">,
    Option<"open", "open", "bool", "false", "leave linears that nothing else names to skim-allocate-bits">,
    Option<"openHead", "open-head", "bool", "false", "with open: leave the head too, unless head is given">,
    Option<"requantize", "requantize", "bool", "false", "quantize weights again that arrive quantized">,
  ];
  let dependentDialects = ["::skim::SkimDialect"];
}

#endif
