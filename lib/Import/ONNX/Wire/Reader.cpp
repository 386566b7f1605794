//===- Reader.cpp - onnx.proto by hand over protozero ----------------------===//
//
// protozero reports damage by exceptions; they and our own end here, at the
// boundary of the library. Field numbers are those of onnx.proto.
//
//===----------------------------------------------------------------------===//
#include "skim/Import/ONNX/Wire.h"

#include <bit>
#include <cstring>
#include <protozero/pbf_reader.hpp>

static_assert(std::endian::native == std::endian::little, "raw_data is little endian and used in place");

using namespace skim;
using namespace skim::wire;
using protozero::pbf_reader;
using protozero::pbf_wire_type;

namespace {

/// Carries a Failure out of the recursion.
struct Malformed {
  Failure failure;
};

class Reader {
public:
  Reader(std::string_view file, const std::string &path, const Limits &limits, std::deque<std::string> &owned)
      : file(file), path(path), limits(limits), owned(owned) {}

  void model(std::string_view bytes, Model &out);
  void tensor(std::string_view bytes, Tensor &out);

  /// Runs `body`, turning every exception into a Failure.
  template <typename Body> Error guard(Body body) {
    try {
      body();
    } catch (const Malformed &error) {
      return error.failure;
    } catch (const std::bad_alloc &) {
      return fail("cannot read an ONNX model", path, "enough memory");
    } catch (const std::length_error &) {
      return fail("cannot read an ONNX model", path, "enough memory");
    }
    return Error::success();
  }

private:
  struct Frame {
    const char *label;
    int64_t index;
  };

  /// Where we are: `graph.node[12].attribute[0], byte 1234 of FILE`.
  std::string place(const char *at) const {
    std::string text;
    for (const Frame &frame : frames) {
      if (!text.empty())
        text += '.';
      text += frame.label;
      if (frame.index >= 0)
        text += "[" + std::to_string(frame.index) + "]";
    }
    if (!text.empty())
      text += ", ";
    return text + "byte " + std::to_string(at - file.data()) + " of " + path;
  }

  [[noreturn]] void bad(const char *at, std::string expected, std::string got = {}, std::string hint = {}) const {
    throw Malformed{fail("malformed ONNX", place(at), std::move(expected), std::move(got), std::move(hint))};
  }

  /// Calls field(reader) for every field of the message `bytes`, with `label`
  /// and `index` (-1: not repeated) as its place.
  template <typename Field> void message(std::string_view bytes, const char *label, int64_t index, Field field) {
    frames.push_back({label, index});
    pbf_reader reader(bytes.data(), bytes.size());
    try {
      while (reader.next())
        field(reader);
    } catch (const protozero::exception &error) {
      const char *at = bytes.data() + (bytes.size() - reader.length());
      bad(at, "protobuf fields", error.what(), "the file may be truncated or damaged");
    }
    frames.pop_back();
  }

  static const char *position(pbf_reader &reader) { return reader.data().data(); }

  void want(pbf_reader &reader, pbf_wire_type type, const char *name) {
    if (reader.wire_type() != type)
      bad(position(reader), std::string("field '") + name + "' in wire type " + std::to_string(static_cast<int>(type)),
          "wire type " + std::to_string(static_cast<int>(reader.wire_type())));
  }

  std::string_view view(pbf_reader &reader, const char *name) {
    want(reader, pbf_wire_type::length_delimited, name);
    protozero::data_view data = reader.get_view();
    return {data.data(), data.size()};
  }

  int64_t integer(pbf_reader &reader, const char *name) {
    want(reader, pbf_wire_type::varint, name);
    return reader.get_int64();
  }

  int32_t integer32(pbf_reader &reader, const char *name) {
    int64_t value = integer(reader, name);
    if (value != static_cast<int32_t>(value))
      bad(position(reader), std::string("32 bits in field '") + name + "'", std::to_string(value));
    return static_cast<int32_t>(value);
  }

  float real(pbf_reader &reader, const char *name) {
    want(reader, pbf_wire_type::fixed32, name);
    return reader.get_float();
  }

  /// A repeated varint field, packed or not, handed to `each` one by one.
  template <typename Each> void integers(pbf_reader &reader, const char *name, Each each) {
    if (reader.wire_type() == pbf_wire_type::varint) {
      each(reader.get_int64());
      return;
    }
    std::string_view packed = view(reader, name);
    const char *at = packed.data(), *end = at + packed.size();
    while (at != end)
      each(static_cast<int64_t>(protozero::decode_varint(&at, end)));
  }

  /// A repeated fixed-size field as bytes: packed data as one view.
  std::string_view fixed(pbf_reader &reader, const char *name, pbf_wire_type type, size_t size) {
    if (reader.wire_type() == type) {
      const char *at = position(reader);
      reader.skip();
      return {at, size};
    }
    std::string_view packed = view(reader, name);
    if (packed.size() % size)
      bad(packed.data(), std::string("field '") + name + "' of whole elements",
          std::to_string(packed.size()) + " bytes");
    return packed;
  }

  void count(const pbf_reader &reader, uint64_t &counter, uint64_t limit, const char *what) {
    if (++counter > limit)
      bad(reader.data().data(), "at most " + std::to_string(limit) + " " + what, "more");
  }

  Entry entry(std::string_view bytes, const char *label, int64_t index);
  void graph(std::string_view bytes, const char *label, int64_t index, Graph &out);
  void node(std::string_view bytes, int64_t index, Node &out);
  void attribute(std::string_view bytes, int64_t index, Attribute &out);
  void tensor(std::string_view bytes, const char *label, int64_t index, Tensor &out);
  void finishTensor(const char *at, Tensor &out, bool external, std::string_view data, bool hasData, uint64_t chunks);
  void valueInfo(std::string_view bytes, const char *label, int64_t index, ValueInfo &out);
  void type(std::string_view bytes, Type &out);
  void tensorType(std::string_view bytes, Type &out);

  std::string_view file;
  const std::string &path;
  const Limits &limits;
  std::deque<std::string> &owned;
  std::vector<Frame> frames;
  unsigned depth = 0;
  uint64_t nodes = 0, tensors = 0, infos = 0;
};

} // namespace

Entry Reader::entry(std::string_view bytes, const char *label, int64_t index) {
  Entry out;
  message(bytes, label, index, [&](pbf_reader &field) {
    switch (field.tag()) {
    case 1:
      out.key = view(field, "key");
      break;
    case 2:
      out.value = view(field, "value");
      break;
    default:
      field.skip();
    }
  });
  return out;
}

void Reader::tensorType(std::string_view bytes, Type &out) {
  message(bytes, "tensor_type", -1, [&](pbf_reader &field) {
    switch (field.tag()) {
    case 1:
      out.element = static_cast<DataType>(integer32(field, "elem_type"));
      break;
    case 2: {
      out.shape.emplace();
      int64_t index = 0;
      message(view(field, "shape"), "shape", -1, [&](pbf_reader &inner) {
        if (inner.tag() != 1)
          return inner.skip();
        if (out.shape->size() == limits.rank)
          bad(position(inner), "at most " + std::to_string(limits.rank) + " dimensions", "more");
        Dimension &dim = out.shape->emplace_back();
        message(view(inner, "dim"), "dim", index++, [&](pbf_reader &value) {
          switch (value.tag()) {
          case 1:
            dim.value = integer(value, "dim_value");
            break;
          case 2:
            dim.param = view(value, "dim_param");
            break;
          default:
            value.skip();
          }
        });
      });
      break;
    }
    default:
      field.skip();
    }
  });
}

void Reader::type(std::string_view bytes, Type &out) {
  message(bytes, "type", -1, [&](pbf_reader &field) {
    switch (field.tag()) {
    case 1:
      out.kind = Type::Kind::Tensor;
      tensorType(view(field, "tensor_type"), out);
      break;
    case 4:
      out.kind = Type::Kind::Sequence;
      field.skip();
      break;
    case 5:
      out.kind = Type::Kind::Map;
      field.skip();
      break;
    case 8:
      out.kind = Type::Kind::SparseTensor;
      field.skip();
      break;
    case 9:
      out.kind = Type::Kind::Optional;
      field.skip();
      break;
    default:
      field.skip();
    }
  });
}

void Reader::valueInfo(std::string_view bytes, const char *label, int64_t index, ValueInfo &out) {
  message(bytes, label, index, [&](pbf_reader &field) {
    switch (field.tag()) {
    case 1:
      out.name = view(field, "name");
      break;
    case 2:
      type(view(field, "type"), out.type);
      break;
    default:
      field.skip();
    }
  });
}

/// Appends `value` as an element of `type`, little endian, as raw_data would
/// hold it. Packed sub-byte types come as bytes. False if it does not fit.
static bool appendInteger(std::string &out, DataType type, int64_t value) {
  unsigned bits = std::max(8u, bitWidth(type));
  if (bits < 64) {
    int64_t low = -(int64_t(1) << (bits - 1)), high = int64_t(1) << bits;
    if (value < low || value >= high)
      return false;
  }
  char bytes[8];
  std::memcpy(bytes, &value, sizeof bytes);
  out.append(bytes, bits / 8);
  return true;
}

void Reader::tensor(std::string_view bytes, const char *label, int64_t index, Tensor &out) {
  // The type may follow the data: integers are kept until it is known.
  std::vector<int64_t> integerData;
  std::string collected;
  std::string_view data;
  bool isExternal = false, hasRaw = false, hasTyped = false;
  uint64_t chunks = 0;
  unsigned typedField = 0;
  ExternalLocation location;
  int64_t entries = 0;

  auto typed = [&](pbf_reader &field) {
    if (typedField && typedField != field.tag())
      bad(position(field), "data in one field",
          "data in fields " + std::to_string(typedField) + " and " + std::to_string(field.tag()));
    typedField = field.tag();
    hasTyped = true;
  };
  // One packed chunk stays a view; several are joined.
  auto append = [&](std::string_view chunk) {
    if (chunks++ == 0) {
      data = chunk;
      return;
    }
    if (chunks == 2)
      collected.assign(data);
    collected.append(chunk);
  };

  message(bytes, label, index, [&](pbf_reader &field) {
    switch (field.tag()) {
    case 1:
      integers(field, "dims", [&](int64_t dim) {
        if (dim < 0)
          bad(position(field), "dimensions of at least 0", std::to_string(dim));
        if (out.dims.size() == limits.rank)
          bad(position(field), "at most " + std::to_string(limits.rank) + " dimensions", "more");
        out.dims.push_back(dim);
      });
      break;
    case 2:
      out.type = static_cast<DataType>(integer32(field, "data_type"));
      break;
    case 3:
      bad(position(field), "whole tensors", "a segment of one");
    case 4:
      typed(field);
      append(fixed(field, "float_data", pbf_wire_type::fixed32, 4));
      break;
    case 10:
      typed(field);
      append(fixed(field, "double_data", pbf_wire_type::fixed64, 8));
      break;
    case 5:
    case 7:
    case 11:
      typed(field);
      integers(field, "integer data", [&](int64_t value) { integerData.push_back(value); });
      break;
    case 6:
      typed(field);
      out.strings.push_back(view(field, "string_data"));
      break;
    case 8:
      out.name = view(field, "name");
      break;
    case 9:
      data = view(field, "raw_data");
      hasRaw = true;
      break;
    case 13: {
      Entry item = entry(view(field, "external_data"), "external_data", entries++);
      if (item.key == "location")
        location.location = item.value;
      else if (item.key == "offset")
        location.offset = item.value;
      else if (item.key == "length")
        location.length = item.value;
      else if (item.key == "checksum")
        location.checksum = item.value;
      break;
    }
    case 14: {
      int32_t value = integer32(field, "data_location");
      if (value != 0 && value != 1)
        bad(position(field), "data_location DEFAULT or EXTERNAL", std::to_string(value));
      isExternal = value == 1;
      break;
    }
    default:
      field.skip();
    }
  });

  // The frame of the message is gone; errors below name it again.
  frames.push_back({label, index});
  const char *at = bytes.data();
  std::string who = out.name.empty() ? std::string() : "tensor '" + std::string(out.name) + "'";
  if (!who.empty())
    frames.push_back({who.c_str(), -1});
  if (out.type == DataType::String) {
    if (isExternal || hasRaw)
      bad(at, "strings in string_data");
  } else if (!bitWidth(out.type)) {
    bad(at, "a data type that ONNX defines", name(out.type));
  }
  out.elements = 1;
  for (int64_t dim : out.dims)
    if (__builtin_mul_overflow(out.elements, static_cast<uint64_t>(dim), &out.elements))
      bad(at, "fewer than 2^64 elements");
  uint64_t bits = 0;
  if (__builtin_mul_overflow(out.elements, uint64_t(bitWidth(out.type)), &bits))
    bad(at, "fewer than 2^64 bits");
  out.byteSize = bits / 8 + (bits % 8 != 0);

  if (isExternal) {
    if (hasRaw || hasTyped)
      bad(at, "external data alone", "data in the file as well");
    out.external = location;
  } else if (out.type == DataType::String) {
    if (out.strings.size() != out.elements)
      bad(at, std::to_string(out.elements) + " strings", std::to_string(out.strings.size()));
  } else {
    if (hasRaw && hasTyped)
      bad(at, "raw_data or typed data", "both");
    if (chunks > 1)
      data = owned.emplace_back(std::move(collected));
    if (!hasRaw && (typedField == 5 || typedField == 7 || typedField == 11)) {
      bool wide = bitWidth(out.type) == 64 || out.type == DataType::UInt32;
      if ((typedField == 5) == wide || out.type == DataType::Float || out.type == DataType::Complex64)
        bad(at, "data of type " + name(out.type) + " in its own field", "field " + std::to_string(typedField));
      std::string &decoded = owned.emplace_back();
      for (int64_t value : integerData)
        if (!appendInteger(decoded, out.type, value))
          bad(at, "values of type " + name(out.type), std::to_string(value));
      data = decoded;
    }
    if (typedField == 4 && out.type != DataType::Float && out.type != DataType::Complex64)
      bad(at, "FLOAT or COMPLEX64 in float_data", name(out.type));
    if (typedField == 10 && out.type != DataType::Double && out.type != DataType::Complex128)
      bad(at, "DOUBLE or COMPLEX128 in double_data", name(out.type));
    if (typedField == 6)
      bad(at, "STRING in string_data", name(out.type));
    if (data.size() != out.byteSize)
      bad(at, std::to_string(out.byteSize) + " bytes of data for its shape and type",
          std::to_string(data.size()) + " bytes");
    out.bytes = data;
  }
  if (!who.empty())
    frames.pop_back();
  frames.pop_back();
}

void Reader::attribute(std::string_view bytes, int64_t index, Attribute &out) {
  using Kind = Attribute::Kind;
  Kind present = Kind::Undefined;
  int64_t subgraphs = 0, inner = 0;
  bool unsupported = false;
  message(bytes, "attribute", index, [&](pbf_reader &field) {
    switch (field.tag()) {
    case 1:
      out.name = view(field, "name");
      break;
    case 2:
      out.f = real(field, "f");
      present = Kind::Float;
      break;
    case 3:
      out.i = integer(field, "i");
      present = Kind::Int;
      break;
    case 4:
      out.s = view(field, "s");
      present = Kind::String;
      break;
    case 5:
    case 10:
      count(field, tensors, limits.tensors, "tensors");
      present = field.tag() == 5 ? Kind::Tensor : Kind::Tensors;
      tensor(view(field, "tensor"), "tensor", inner++, out.tensors.emplace_back());
      break;
    case 6:
    case 11:
      if (depth + 1 >= limits.graphDepth)
        bad(position(field), "at most " + std::to_string(limits.graphDepth) + " nested graphs", "more");
      ++depth;
      present = field.tag() == 6 ? Kind::Graph : Kind::Graphs;
      graph(view(field, "graph"), "graph", subgraphs++, out.graphs.emplace_back());
      --depth;
      break;
    case 7: {
      std::string_view data = fixed(field, "floats", pbf_wire_type::fixed32, 4);
      size_t before = out.floats.size();
      out.floats.resize(before + data.size() / 4);
      if (!data.empty())
        std::memcpy(out.floats.data() + before, data.data(), data.size());
      present = Kind::Floats;
      break;
    }
    case 8:
      integers(field, "ints", [&](int64_t value) { out.ints.push_back(value); });
      present = Kind::Ints;
      break;
    case 9:
      out.strings.push_back(view(field, "strings"));
      present = Kind::Strings;
      break;
    case 14:
    case 15:
    case 22:
    case 23:
      unsupported = true;
      field.skip();
      break;
    case 20: {
      int32_t value = integer32(field, "type");
      if (value < 0 || value > 14)
        bad(position(field), "an attribute type that ONNX defines", std::to_string(value));
      out.kind = static_cast<Kind>(value);
      break;
    }
    case 21:
      out.reference = view(field, "ref_attr_name");
      break;
    default:
      field.skip();
    }
  });
  // Files of IR version 1 name no type; an absent value is protobuf's zero.
  if (out.kind == Kind::Undefined && !unsupported)
    out.kind = present;
  bool single = out.kind == Kind::Tensor || out.kind == Kind::Graph;
  size_t held = out.kind == Kind::Tensor ? out.tensors.size() : out.graphs.size();
  if (out.reference.empty() && single && held != 1) {
    frames.push_back({"attribute", index});
    bad(bytes.data(), "one value in attribute '" + std::string(out.name) + "'", std::to_string(held));
  }
}

void Reader::node(std::string_view bytes, int64_t index, Node &out) {
  int64_t attributes = 0, entries = 0;
  message(bytes, "node", index, [&](pbf_reader &field) {
    switch (field.tag()) {
    case 1:
    case 2: {
      std::vector<std::string_view> &list = field.tag() == 1 ? out.inputs : out.outputs;
      if (list.size() == limits.operands)
        bad(position(field), "at most " + std::to_string(limits.operands) + " inputs or outputs", "more");
      list.push_back(view(field, "input"));
      break;
    }
    case 3:
      out.name = view(field, "name");
      break;
    case 4:
      out.op = view(field, "op_type");
      break;
    case 5:
      attribute(view(field, "attribute"), attributes++, out.attributes.emplace_back());
      break;
    case 7:
      out.domain = view(field, "domain");
      break;
    case 9:
      out.metadata.push_back(entry(view(field, "metadata_props"), "metadata_props", entries++));
      break;
    default:
      field.skip();
    }
  });
}

void Reader::graph(std::string_view bytes, const char *label, int64_t index, Graph &out) {
  int64_t n[5] = {};
  message(bytes, label, index, [&](pbf_reader &field) {
    switch (field.tag()) {
    case 1:
      count(field, nodes, limits.nodes, "nodes");
      node(view(field, "node"), n[0]++, out.nodes.emplace_back());
      break;
    case 2:
      out.name = view(field, "name");
      break;
    case 5:
      count(field, tensors, limits.tensors, "tensors");
      tensor(view(field, "initializer"), "initializer", n[1]++, out.initializers.emplace_back());
      break;
    case 11:
      count(field, infos, limits.tensors, "value infos");
      valueInfo(view(field, "input"), "input", n[2]++, out.inputs.emplace_back());
      break;
    case 12:
      count(field, infos, limits.tensors, "value infos");
      valueInfo(view(field, "output"), "output", n[3]++, out.outputs.emplace_back());
      break;
    case 13:
      count(field, infos, limits.tensors, "value infos");
      valueInfo(view(field, "value_info"), "value_info", n[4]++, out.values.emplace_back());
      break;
    case 15:
      ++out.sparseInitializers;
      field.skip();
      break;
    default:
      field.skip();
    }
  });
}

void Reader::model(std::string_view bytes, Model &out) {
  bool hasGraph = false;
  int64_t opsets = 0, entries = 0, functions = 0;
  message(bytes, "model", -1, [&](pbf_reader &field) {
    switch (field.tag()) {
    case 1:
      out.irVersion = integer(field, "ir_version");
      break;
    case 2:
      out.producerName = view(field, "producer_name");
      break;
    case 3:
      out.producerVersion = view(field, "producer_version");
      break;
    case 7:
      if (hasGraph)
        bad(position(field), "one graph", "a second");
      hasGraph = true;
      graph(view(field, "graph"), "graph", -1, out.graph);
      break;
    case 8: {
      OpsetImport &import = out.opsets.emplace_back();
      message(view(field, "opset_import"), "opset_import", opsets++, [&](pbf_reader &inner) {
        switch (inner.tag()) {
        case 1:
          import.domain = view(inner, "domain");
          break;
        case 2:
          import.version = integer(inner, "version");
          break;
        default:
          inner.skip();
        }
      });
      break;
    }
    case 14:
      out.metadata.push_back(entry(view(field, "metadata_props"), "metadata_props", entries++));
      break;
    case 25: {
      Function &function = out.functions.emplace_back();
      message(view(field, "functions"), "functions", functions++, [&](pbf_reader &inner) {
        switch (inner.tag()) {
        case 1:
          function.name = view(inner, "name");
          break;
        case 10:
          function.domain = view(inner, "domain");
          break;
        default:
          inner.skip();
        }
      });
      break;
    }
    default:
      field.skip();
    }
  });
  if (!hasGraph)
    throw Malformed{fail("not an ONNX model", path, "a ModelProto with a graph", "none",
                         "the file may be truncated or of another format")};
}

void Reader::tensor(std::string_view bytes, Tensor &out) { tensor(bytes, "tensor", -1, out); }

Expected<Model> skim::wire::readModel(std::string_view bytes, std::shared_ptr<const MappedFile> file,
                                      const std::string &path, const Limits &limits) {
  if (bytes.size() > limits.fileBytes)
    return fail("cannot read an ONNX model", path, "at most " + std::to_string(limits.fileBytes) + " bytes",
                std::to_string(bytes.size()), "larger models keep their weights in external data");
  Model model;
  model.file = std::move(file);
  Reader reader(bytes, path, limits, model.owned);
  if (Error error = reader.guard([&] { reader.model(bytes, model); }))
    return error;
  return model;
}

Expected<Model> skim::wire::readModel(const std::string &path, const Limits &limits) {
  Expected<std::shared_ptr<const MappedFile>> file = MappedFile::open(path);
  if (!file)
    return file.takeError();
  std::string_view bytes = (*file)->bytes();
  return readModel(bytes, *file, path, limits);
}

Expected<Tensor> skim::wire::readTensor(std::string_view bytes, const std::string &path,
                                        std::deque<std::string> &owned) {
  Tensor tensor;
  Limits limits;
  Reader reader(bytes, path, limits, owned);
  if (Error error = reader.guard([&] { reader.tensor(bytes, tensor); }))
    return error;
  return tensor;
}
