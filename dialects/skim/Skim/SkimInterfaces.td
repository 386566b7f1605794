//===- SkimInterfaces.td - what an encoding must provide ----*- tablegen -*-===//
#ifndef SKIM_SKIM_INTERFACES_TD
#define SKIM_SKIM_INTERFACES_TD

include "mlir/IR/OpBase.td"

def WeightEncodingInterface : AttrInterface<"WeightEncoding"> {
  let cppNamespace = "::skim";
  let description = [{
    A weight format: one equation for the value of an element, one storage
    layout (the components), one bit count. `shape` is the logical shape
    [N, K]: N output rows, K input columns.
  }];
  let methods = [
    InterfaceMethod<[{
        Checks that the encoding can hold a weight of this logical shape and
        element type; says which constraint it breaks.
      }],
      "::llvm::LogicalResult", "verifyWeight",
      (ins "::llvm::ArrayRef<int64_t>":$shape, "::mlir::Type":$elementType,
           "::llvm::function_ref<::mlir::InFlightDiagnostic()>":$emitError)>,
    InterfaceMethod<[{
        Appends the components (name, kind, type) in storage order. `prefix` is
        put before each name: nested terms name theirs `low_rank.a.codes`,
        `rows.0.codes`.
      }],
      "void", "getComponents",
      (ins "::llvm::ArrayRef<int64_t>":$shape, "::llvm::StringRef":$prefix,
           "::llvm::SmallVectorImpl<::skim::Component> &":$components)>,
    InterfaceMethod<[{
        The term's short name where it has one (`w4g128`, `k3i+r32`), else its
        attribute's text.
      }],
      "::std::string", "getShortName", (ins)>,
  ];
}

#endif
