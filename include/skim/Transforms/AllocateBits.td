#ifndef SKIM_TRANSFORMS_ALLOCATEBITS_TD
#define SKIM_TRANSFORMS_ALLOCATEBITS_TD

include "mlir/Pass/PassBase.td"

def AllocateBits : Pass<"skim-allocate-bits", "::mlir::ModuleOp"> {
  let summary = "spends a budget of bits or bytes over the linears";
  let description = [{
    Gives every `skim.linear` without `skim.encoding` one: rows of codebooks of
    mixed width, chosen so that the loss-weighted error of the whole model is
    least within the budget. Layers that have an encoding keep it and count.

    First records, for every row and width, the error that it has under the
    statistics, with its codes, in the file `record` (reused if it belongs to the
    same model, statistics and options); then allocates. Which row got which
    width is data and goes to the file `plan`, which `skim-quantize-weights` reads.

    With `all-terms` a row may also be uniform codes or share one table with others,
    which store less beside the codes than a table of its own; long rows may have f16
    tables, or scales of groups of 64. What shares or groups is offered layer by
    layer, so that no layer has rows of all kinds. A head that was left open joins a budget of bytes; where it is tied to the
    embeddings it gets one term, since rows that are looked up lie in one place.
    Without gradients of the head's outputs in the statistics it gets 8 bits.

    `bits` bounds the true bits of the linears (all stored bytes × 8 ÷ weights;
    the head and embeddings not counted), `size` the bytes of all weights. The
    budget is never exceeded; below what the format can reach the pass fails and
    names the minimum.

    `pareto` writes what the allocator could do at 100 budgets beside the one given:
    each row is the best of its size.

    `as-published`: SKIM (ICML 2025): errors of plain weighted k-means by L-full,
    allocation within each matrix by the same mean bits, the largest that fits.
    Without `mixing` every row has the same width; with `scaling` linears get SKIM's
    trained vector α. (Its paper has both.)

    Needs: skim-assign-encodings with `open` before it.
  }];
  let options = [
    Option<"base", "base", "std::string", /*default=*/"\".\"", "folder that the externals' file names start from">,
    Option<"statistics", "statistics", "std::string", "\"\"", "the statistics file">,
    Option<"record", "record", "std::string", "\"\"", "the record of errors and codes, read or written">,
    Option<"plan", "plan", "std::string", "\"plan.json\"", "the plan to write">,
    Option<"pareto", "pareto", "std::string", "\"\"", "a CSV file for the best error at every size: bytes, true bits, error">,
    Option<"method", "method", "std::string", "\"skim\"", "skim or auto">,
    Option<"bits", "bits", "double", "0", "true bits of the linears (0: no such bound)">,
    Option<"size", "size", "uint64_t", "0", "bytes of all weights (0: no such bound)">,
    Option<"minBits", "min-bits", "unsigned", "1", "least width of a row">,
    Option<"maxBits", "max-bits", "unsigned", "5", "largest width of a row">,
    Option<"table", "table", "std::string", "\"i8\"", "type of the tables: i8, f16 or bf16">,
    Option<"asPublished", "as-published", "bool", "false", "SKIM as its paper has it">,
    Option<"mixing", "mixing", "bool", "true", "rows of one matrix may differ in width">,
    Option<"scaling", "scaling", "bool", "false", "a scaling vector over the columns of each linear">,
    Option<"allTerms", "all-terms", "bool", "false", "rows may have other terms than codebooks">,
    Option<"tile", "tile", "unsigned", "1", "rows of a width come so many at once, but for the least (not as-published)">,
    Option<"modelHash", "model-hash", "std::string", "\"\"", "of the model that the statistics must belong to">,
    Option<"threads", "threads", "unsigned", "0", "threads (0: all; the result does not depend on it)">,
  ];
  let dependentDialects = ["::skim::SkimDialect"];
}

#endif
