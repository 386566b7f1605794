//===- Wire.h - ONNX files as plain structs --------------------*- C++ -*-===//
//
// The protobuf wire format of onnx.proto (IR version <= 13), read straight from
// a mapped file. Knows neither MLIR nor what an operator means. Every string and
// all tensor data are views into the mapping, valid as long as the Model lives;
// nothing is copied but varint-coded tensor fields.
//
// Input is not trusted: every malformed byte is a Failure that names the message
// and the byte offset, limits bound depth and counts.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_IMPORT_ONNX_WIRE_H
#define SKIM_IMPORT_ONNX_WIRE_H

#include "skim/Support/Error.h"
#include "skim/Support/MappedFile.h"

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace skim::wire {

/// TensorProto.DataType.
enum class DataType : int32_t {
  Undefined = 0,
  Float = 1,
  UInt8 = 2,
  Int8 = 3,
  UInt16 = 4,
  Int16 = 5,
  Int32 = 6,
  Int64 = 7,
  String = 8,
  Bool = 9,
  Float16 = 10,
  Double = 11,
  UInt32 = 12,
  UInt64 = 13,
  Complex64 = 14,
  Complex128 = 15,
  BFloat16 = 16,
  Float8E4M3FN = 17,
  Float8E4M3FNUZ = 18,
  Float8E5M2 = 19,
  Float8E5M2FNUZ = 20,
  UInt4 = 21,
  Int4 = 22,
  Float4E2M1 = 23,
  Float8E8M0 = 24,
  UInt2 = 25,
  Int2 = 26,
};

/// Bits of one element; 0 for Undefined, String and numbers that ONNX does not
/// define. Sub-byte elements are packed, low bits first.
unsigned bitWidth(DataType type);

/// ONNX's spelling (`FLOAT16`), or `data type 99`.
std::string name(DataType type);

/// A dimension: a number, a name (`batch`, `past + sequence`), or neither.
struct Dimension {
  std::optional<int64_t> value;
  std::string_view param;
};

/// TypeProto. Only tensors carry an element type and a shape.
struct Type {
  enum class Kind { None, Tensor, SparseTensor, Sequence, Map, Optional };
  Kind kind = Kind::None;
  DataType element = DataType::Undefined;
  /// Absent: the rank is unknown.
  std::optional<std::vector<Dimension>> shape;
};

struct ValueInfo {
  std::string_view name;
  Type type;
};

struct Entry {
  std::string_view key, value;
};

/// Where a tensor outside the model file lies, as written there: unchecked.
struct ExternalLocation {
  std::string_view location, offset, length, checksum;
};

/// TensorProto. Exactly one of `bytes`, `strings`, `external` holds the data.
struct Tensor {
  std::string_view name;
  DataType type = DataType::Undefined;
  std::vector<int64_t> dims;
  /// Data in the layout of raw_data (little endian, row major): a view into the
  /// file, or into Model::owned where the file stores varints. Its size matches
  /// dims and type.
  std::string_view bytes;
  std::vector<std::string_view> strings;
  std::optional<ExternalLocation> external;
  /// Bytes of the data: ceil(product of dims * bitWidth / 8).
  uint64_t byteSize = 0;
  /// Product of dims.
  uint64_t elements = 0;
};

struct Graph;

/// AttributeProto. The member that `kind` names holds the value.
struct Attribute {
  enum class Kind : int32_t {
    Undefined = 0,
    Float = 1,
    Int = 2,
    String = 3,
    Tensor = 4,
    Graph = 5,
    Floats = 6,
    Ints = 7,
    Strings = 8,
    Tensors = 9,
    Graphs = 10,
    SparseTensor = 11,
    SparseTensors = 12,
    TypeProto = 13,
    TypeProtos = 14,
  };
  std::string_view name;
  Kind kind = Kind::Undefined;
  float f = 0;
  int64_t i = 0;
  std::string_view s;
  std::vector<float> floats;
  std::vector<int64_t> ints;
  std::vector<std::string_view> strings;
  /// Of Tensor (one) and Tensors.
  std::vector<Tensor> tensors;
  /// Of Graph (one) and Graphs.
  std::vector<Graph> graphs;
  /// Names a parameter of the function that the node stands in.
  std::string_view reference;
};

struct Node {
  std::string_view name, op, domain;
  /// Values by name; "" is an operand or result left out.
  std::vector<std::string_view> inputs, outputs;
  std::vector<Attribute> attributes;
  std::vector<Entry> metadata;
};

struct Graph {
  std::string_view name;
  std::vector<Node> nodes;
  std::vector<Tensor> initializers;
  std::vector<ValueInfo> inputs, outputs, values;
  unsigned sparseInitializers = 0;
};

struct OpsetImport {
  std::string_view domain;
  int64_t version = 0;
};

/// A model-local function: only its name; nodes that call it are reported as
/// unsupported by whoever reads the graph.
struct Function {
  std::string_view name, domain;
};

struct Model {
  std::shared_ptr<const MappedFile> file;
  int64_t irVersion = 0;
  std::string_view producerName, producerVersion;
  std::vector<OpsetImport> opsets;
  std::vector<Entry> metadata;
  std::vector<Function> functions;
  Graph graph;
  /// Tensor data that the file stores as varints, decoded. A deque: views into
  /// its strings stay valid.
  std::deque<std::string> owned;
};

/// Bounds on what a file may ask for. The defaults are far above real models.
struct Limits {
  /// Bytes of the model file; protobuf itself ends at 2 GiB.
  uint64_t fileBytes = uint64_t(1) << 31;
  /// Subgraphs inside attributes inside nodes.
  unsigned graphDepth = 16;
  /// Nodes, over all graphs.
  uint64_t nodes = uint64_t(1) << 21;
  /// Tensors and value infos, each, over all graphs.
  uint64_t tensors = uint64_t(1) << 21;
  /// Inputs and outputs, each, of one node.
  uint64_t operands = uint64_t(1) << 16;
  unsigned rank = 64;
};

/// Reads a model. Data in other files is not touched: see ExternalData.
Expected<Model> readModel(const std::string &path, const Limits &limits = {});

/// Reads a model from bytes that `file` (may be null) keeps alive.
Expected<Model> readModel(std::string_view bytes, std::shared_ptr<const MappedFile> file, const std::string &path,
                          const Limits &limits = {});

/// Reads one TensorProto, as test data sets store them (`input_0.pb`). `owned`
/// receives data that is stored as varints.
Expected<Tensor> readTensor(std::string_view bytes, const std::string &path, std::deque<std::string> &owned);

/// Opens the files that a model's tensors refer to, each once.
///
/// A location must be a relative path without `..` and must stay in the model's
/// folder after following links; a hard link is accepted only if all its names
/// lie in that folder (otherwise a model could read any file of the same user:
/// CVE-2026-27489, CVE-2026-34446).
class ExternalData {
public:
  /// `modelPath`: the model file; its folder holds the data.
  explicit ExternalData(const std::string &modelPath);

  struct Slice {
    std::shared_ptr<const MappedFile> file;
    /// Relative to the model's folder, as the model spells it.
    std::string location;
    uint64_t offset = 0;
    uint64_t length = 0;
    std::string_view bytes() const { return file->bytes().substr(offset, length); }
  };

  /// Checks offset and length against the file and against dims x type.
  /// Precondition: tensor.external.
  Expected<Slice> locate(const Tensor &tensor);

  /// The folder of the model.
  const std::string &folder() const { return root; }

private:
  Expected<std::shared_ptr<const MappedFile>> open(const std::string &location);

  std::string root;
  std::map<std::string, std::shared_ptr<const MappedFile>> files;
};

} // namespace skim::wire

#endif // SKIM_IMPORT_ONNX_WIRE_H
