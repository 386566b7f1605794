//===- WireTest.cpp - ONNX files, whole and damaged -------------------------===//
#include "skim/Import/ONNX/Wire.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <random>
#include <sys/stat.h>
#include <unistd.h>

using namespace skim;
using namespace skim::wire;
namespace fs = std::filesystem;

namespace {

/// A protobuf message under construction.
struct Message {
  std::string bytes;

  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7)
      bytes += static_cast<char>(value | 0x80);
    bytes += static_cast<char>(value);
  }
  Message &integer(int field, uint64_t value) {
    varint(field << 3);
    varint(value);
    return *this;
  }
  Message &text(int field, std::string_view value) {
    varint(field << 3 | 2);
    varint(value.size());
    bytes += value;
    return *this;
  }
  Message &add(int field, const Message &inner) { return text(field, inner.bytes); }
  Message &real(int field, float value) {
    varint(field << 3 | 5);
    bytes.append(reinterpret_cast<const char *>(&value), 4);
    return *this;
  }
  Message &packed(int field, const std::vector<uint64_t> &values) {
    Message inner;
    for (uint64_t value : values)
      inner.varint(value);
    return add(field, inner);
  }
};

Message tensor(std::string_view name, int type, const std::vector<uint64_t> &dims, std::string_view raw) {
  return Message().packed(1, dims).integer(2, type).text(8, name).text(9, raw);
}

Message external(std::string_view name, std::string_view location, std::string_view offset, std::string_view length) {
  Message out = Message().packed(1, {2, 2}).integer(2, 1).text(8, name);
  out.add(13, Message().text(1, "location").text(2, location));
  if (!offset.empty())
    out.add(13, Message().text(1, "offset").text(2, offset));
  if (!length.empty())
    out.add(13, Message().text(1, "length").text(2, length));
  return out.integer(14, 1);
}

Message valueInfo(std::string_view name) {
  Message shape;
  shape.add(1, Message().text(2, "batch")).add(1, Message().integer(1, 4)).add(1, Message());
  return Message().text(1, name).add(2, Message().add(1, Message().integer(1, 1).add(2, shape)));
}

/// A model with one of each thing that the reader knows.
Message model(const std::vector<Message> &initializers = {}) {
  Message subgraph = Message().text(2, "then").add(1, Message().text(4, "Identity").text(1, "x").text(2, "z"));
  Message node = Message().text(1, "x").text(1, "").text(2, "y").text(3, "/layers.0/Add").text(4, "Add").text(7, "d");
  node.add(5, Message().text(1, "axis").integer(3, uint64_t(-1)).integer(20, 2));
  node.add(5, Message().text(1, "alpha").real(2, 0.5f).integer(20, 1));
  node.add(5, Message().text(1, "mode").text(4, "tanh").integer(20, 3));
  node.add(5, Message().text(1, "perm").packed(8, {0, 2, 1}).integer(20, 7));
  node.add(5, Message().text(1, "scales").real(7, 1).real(7, 2).integer(20, 6));
  node.add(5, Message().text(1, "value").add(5, tensor("", 7, {1}, std::string(8, '\1'))).integer(20, 4));
  node.add(5, Message().text(1, "then_branch").add(6, subgraph).integer(20, 5));
  node.add(9, Message().text(1, "namespace").text(2, "model.layers.0"));
  Message graph = Message().add(1, node).text(2, "g");
  graph.add(5, tensor("w", 1, {2, 3}, std::string(24, '\2')));
  for (const Message &extra : initializers)
    graph.add(5, extra);
  graph.add(11, valueInfo("x")).add(12, valueInfo("y")).add(13, valueInfo("v"));
  return Message()
      .integer(1, 8)
      .text(2, "test")
      .add(8, Message().text(1, "").integer(2, 17))
      .add(8, Message().text(1, "d").integer(2, 1))
      .add(14, Message().text(1, "k").text(2, "v"))
      .add(7, graph);
}

Expected<Model> read(const std::string &bytes, const Limits &limits = {}) {
  return readModel(bytes, nullptr, "model.onnx", limits);
}

std::string errorOf(const Message &message, const Limits &limits = {}) { return read(message.bytes, limits).message(); }

/// Reads every view of a model, so that a sanitizer or the page after the file
/// catches one that leaves it.
uint64_t touch(const Graph &graph);
uint64_t touch(std::string_view text) {
  uint64_t sum = 0;
  for (unsigned char c : text)
    sum += c;
  return sum;
}
uint64_t touch(const Tensor &tensor) { return touch(tensor.name) + touch(tensor.bytes); }
uint64_t touch(const Graph &graph) {
  uint64_t sum = touch(graph.name);
  for (const Node &node : graph.nodes) {
    sum += touch(node.name) + touch(node.op) + touch(node.domain);
    for (std::string_view input : node.inputs)
      sum += touch(input);
    for (const Attribute &attribute : node.attributes) {
      sum += touch(attribute.name) + touch(attribute.s);
      for (const Tensor &value : attribute.tensors)
        sum += touch(value);
      for (const Graph &value : attribute.graphs)
        sum += touch(value);
    }
  }
  for (const Tensor &value : graph.initializers)
    sum += touch(value);
  for (const auto *list : {&graph.inputs, &graph.outputs, &graph.values})
    for (const ValueInfo &value : *list)
      sum += touch(value.name);
  return sum;
}

/// A folder of its own, gone at the end of the test.
struct Folder {
  fs::path path;
  Folder() {
    std::string name = (fs::temp_directory_path() / "skim-wire-XXXXXX").string();
    path = ::mkdtemp(name.data());
  }
  ~Folder() { fs::remove_all(path); }
  void write(const fs::path &name, std::string_view bytes) const {
    fs::create_directories((path / name).parent_path());
    std::ofstream(path / name, std::ios::binary) << bytes;
  }
};

} // namespace

TEST(Wire, ReadsEveryKindOfField) {
  std::string bytes = model().bytes;
  Expected<Model> result = read(bytes);
  ASSERT_TRUE(result) << result.message();
  const Model &m = *result;
  EXPECT_EQ(m.irVersion, 8);
  EXPECT_EQ(m.producerName, "test");
  ASSERT_EQ(m.opsets.size(), 2u);
  EXPECT_EQ(m.opsets[0].version, 17);
  EXPECT_EQ(m.opsets[1].domain, "d");
  EXPECT_EQ(m.metadata.at(0).key, "k");
  const Node &node = m.graph.nodes.at(0);
  EXPECT_EQ(node.name, "/layers.0/Add");
  EXPECT_EQ(node.inputs, (std::vector<std::string_view>{"x", ""}));
  ASSERT_EQ(node.attributes.size(), 7u);
  EXPECT_EQ(node.attributes[0].i, -1);
  EXPECT_EQ(node.attributes[1].f, 0.5f);
  EXPECT_EQ(node.attributes[2].s, "tanh");
  EXPECT_EQ(node.attributes[3].ints, (std::vector<int64_t>{0, 2, 1}));
  EXPECT_EQ(node.attributes[4].floats, (std::vector<float>{1, 2}));
  EXPECT_EQ(node.attributes[5].tensors.at(0).bytes.size(), 8u);
  EXPECT_EQ(node.attributes[6].graphs.at(0).nodes.at(0).op, "Identity");
  EXPECT_EQ(node.metadata.at(0).value, "model.layers.0");
  const Type &type = m.graph.inputs.at(0).type;
  EXPECT_EQ(type.element, DataType::Float);
  ASSERT_EQ(type.shape->size(), 3u);
  EXPECT_EQ((*type.shape)[0].param, "batch");
  EXPECT_EQ((*type.shape)[1].value, 4);
  EXPECT_FALSE((*type.shape)[2].value);
  // Weights are views into the file, not copies.
  const Tensor &w = m.graph.initializers.at(0);
  EXPECT_GE(w.bytes.data(), bytes.data());
  EXPECT_LE(w.bytes.data() + w.bytes.size(), bytes.data() + bytes.size());
}

TEST(Wire, TypedDataBecomesRawLayout) {
  auto bytesOf = [](const Message &tensor) {
    std::deque<std::string> owned;
    Expected<Tensor> result = readTensor(tensor.bytes, "t.pb", owned);
    return result ? std::string(result->bytes) : "error: " + result.message();
  };
  auto header = [](int type, uint64_t n) { return Message().packed(1, {n}).integer(2, type); };
  EXPECT_EQ(bytesOf(header(7, 2).packed(7, {1, uint64_t(-2)})),
            std::string("\1\0\0\0\0\0\0\0\xfe\xff\xff\xff\xff\xff\xff\xff", 16));
  EXPECT_EQ(bytesOf(header(6, 1).packed(5, {uint64_t(-1)})), "\xff\xff\xff\xff");
  EXPECT_EQ(bytesOf(header(10, 2).packed(5, {0x3c00, 0xc000})), std::string("\0\x3c\0\xc0", 4));
  EXPECT_EQ(bytesOf(header(3, 2).packed(5, {uint64_t(-1), 5})), "\xff\5");
  EXPECT_EQ(bytesOf(header(9, 3).packed(5, {1, 0, 1})), std::string("\1\0\1", 3));
  EXPECT_EQ(bytesOf(header(22, 3).packed(5, {0x21, 0x03})), "\x21\x03");
  EXPECT_EQ(bytesOf(header(12, 1).packed(11, {7})), std::string("\7\0\0\0", 4));
  EXPECT_EQ(bytesOf(header(1, 2).real(4, 1).real(4, 2)).size(), 8u);
  EXPECT_EQ(bytesOf(header(1, 0)), "");
  // A type may follow its data.
  EXPECT_EQ(bytesOf(Message().packed(7, {3}).packed(1, {1}).integer(2, 7)).size(), 8u);
  EXPECT_NE(bytesOf(header(3, 1).packed(5, {300})).find("expected values of type INT8, got 300"), std::string::npos);
  EXPECT_NE(bytesOf(header(7, 1).packed(5, {3})).find("INT64 in its own field"), std::string::npos);
}

TEST(Wire, RefusesWhatDoesNotFit) {
  auto with = [](const Message &initializer) { return errorOf(model({initializer})); };
  EXPECT_EQ(
      with(tensor("t", 1, {2, 2}, "short")).find("malformed ONNX at model.graph.initializer[1].tensor 't', byte "), 0u);
  EXPECT_NE(with(tensor("t", 1, {2, 2}, "short")).find("expected 16 bytes of data for its shape and type, got 5 bytes"),
            std::string::npos);
  EXPECT_NE(with(tensor("t", 99, {1}, "")).find("data type 99"), std::string::npos);
  EXPECT_NE(with(tensor("t", 1, {uint64_t(-1)}, "")).find("dimensions of at least 0, got -1"), std::string::npos);
  EXPECT_NE(with(tensor("t", 1, {1ull << 62, 1ull << 62}, "")).find("2^64 elements"), std::string::npos);
  EXPECT_NE(with(tensor("t", 1, {1ull << 62}, "")).find("2^64 bits"), std::string::npos);
  EXPECT_NE(with(tensor("t", 1, std::vector<uint64_t>(100, 1), "")).find("at most 64 dimensions"), std::string::npos);
  EXPECT_NE(with(Message().integer(2, 8).text(8, "t").text(9, "x")).find("strings in string_data"), std::string::npos);
  EXPECT_NE(errorOf(Message().integer(1, 8)).find("expected a ModelProto with a graph, got none"), std::string::npos);
  EXPECT_NE(errorOf(Message().text(1, "x")).find("field 'ir_version' in wire type 0"), std::string::npos);
  EXPECT_NE(read("plain text").message().find("expected"), std::string::npos);
  EXPECT_FALSE(read(""));
}

TEST(Wire, Limits) {
  Message graph = Message().text(2, "innermost");
  for (int i = 0; i < 50; ++i) {
    Message body = Message().add(5, Message().text(1, "body").add(6, graph).integer(20, 5)).text(4, "If");
    graph = Message().add(1, body);
  }
  EXPECT_NE(errorOf(Message().add(7, graph)).find("expected at most 16 nested graphs"), std::string::npos);
  Limits few;
  few.nodes = 1;
  EXPECT_NE(errorOf(model(), few).find("expected at most 1 nodes"), std::string::npos);
  few = {};
  few.fileBytes = 10;
  EXPECT_NE(errorOf(model(), few).find("expected at most 10 bytes"), std::string::npos);
  few = {};
  few.operands = 1;
  EXPECT_NE(errorOf(model(), few).find("inputs or outputs"), std::string::npos);
  EXPECT_NE(read("", few).message().find("ModelProto"), std::string::npos);
}

/// Every outcome but a crash or a view outside of the bytes is right; an error
/// is one line. Bytes end where the allocation does, so that a sanitizer sees
/// the first byte too many.
static void mutate(const std::string &original, unsigned truncations, unsigned flips) {
  std::mt19937_64 random(20240229);
  uint64_t sum = 0;
  auto check = [&](const std::string &bytes) {
    std::vector<char> exact(bytes.begin(), bytes.end());
    Expected<Model> result = readModel(std::string_view(exact.data(), exact.size()), nullptr, "model.onnx");
    if (result)
      sum += touch(result->graph);
    else
      ASSERT_EQ(result.message().find('\n'), std::string::npos);
  };
  for (unsigned i = 0; i < truncations; ++i)
    check(original.substr(0, truncations >= original.size() ? i % original.size() : random() % original.size()));
  for (unsigned i = 0; i < flips; ++i) {
    std::string bytes = original;
    for (unsigned n = 1 + random() % 4; n; --n)
      bytes[random() % bytes.size()] ^= static_cast<char>(1u << random() % 8);
    check(bytes);
  }
  EXPECT_NE(sum, 1u);
}

TEST(Wire, DamageIsAnError) {
  std::string bytes = model({external("e", "model.data", "0", "16")}).bytes;
  mutate(bytes, static_cast<unsigned>(bytes.size()), 20000);
}

TEST(Wire, DamagedExports) {
  const char *shared = std::getenv("SKIM_SHARED");
  fs::path models = fs::path(shared ? shared : SKIM_SHARED_DEFAULT) / "data" / "models";
  if (!fs::exists(models))
    GTEST_SKIP() << models << " is absent";
  for (const char *name : {"stories260K-genai-int4", "stories260K-dynamo23-past", "tok105-genai-fp32"}) {
    std::ifstream file(models / name / "model.onnx", std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(file)), {});
    ASSERT_FALSE(bytes.empty());
    Expected<Model> whole = read(bytes);
    ASSERT_TRUE(whole) << whole.message();
    EXPECT_GT(whole->graph.nodes.size(), 50u);
    mutate(bytes, 60, 120);
  }
}

namespace {
/// Locates the one external tensor of a model in `folder`.
std::string locate(const Folder &folder, std::string_view location, std::string_view offset = "0",
                   std::string_view length = "16") {
  std::deque<std::string> owned;
  std::string bytes = external("layers.0.weight", location, offset, length).bytes;
  Expected<Tensor> tensor = readTensor(bytes, "t.pb", owned);
  if (!tensor)
    return tensor.message();
  ExternalData data((folder.path / "model.onnx").string());
  Expected<ExternalData::Slice> slice = data.locate(*tensor);
  if (!slice)
    return slice.message();
  return "found " + std::to_string(slice->bytes().size()) + " bytes";
}
} // namespace

TEST(ExternalData, AcceptsFilesOfTheFolder) {
  Folder folder;
  folder.write("model.onnx.data", std::string(64, 'x'));
  folder.write("sub/more.bin", std::string(16, 'x'));
  EXPECT_EQ(locate(folder, "model.onnx.data"), "found 16 bytes");
  EXPECT_EQ(locate(folder, "model.onnx.data", "48"), "found 16 bytes");
  EXPECT_EQ(locate(folder, "model.onnx.data", "", ""), "found 16 bytes");
  EXPECT_EQ(locate(folder, "sub/more.bin"), "found 16 bytes");
  fs::create_symlink("model.onnx.data", folder.path / "link");
  EXPECT_EQ(locate(folder, "link"), "found 16 bytes");
  fs::create_hard_link(folder.path / "model.onnx.data", folder.path / "sub/hard");
  EXPECT_EQ(locate(folder, "sub/hard"), "found 16 bytes");
}

TEST(ExternalData, RefusesPathsOutOfTheFolder) {
  Folder outside, folder;
  outside.write("secret", std::string(64, 's'));
  std::string secret = (outside.path / "secret").string();
  EXPECT_NE(locate(folder, secret).find("got an absolute path"), std::string::npos);
  EXPECT_NE(locate(folder, "../" + outside.path.filename().string() + "/secret").find("got '..'"), std::string::npos);
  EXPECT_NE(locate(folder, "a/../b").find("got '..'"), std::string::npos);
  EXPECT_NE(locate(folder, "").find("expected a file name"), std::string::npos);
  EXPECT_NE(locate(folder, std::string_view("a\0b", 3)).find("NUL"), std::string::npos);
  fs::create_symlink(secret, folder.path / "link");
  EXPECT_NE(locate(folder, "link").find("expected a file inside the model's folder, got a link"), std::string::npos);
  fs::create_directory_symlink(outside.path, folder.path / "dir");
  EXPECT_NE(locate(folder, "dir/secret").find("expected a file inside the model's folder"), std::string::npos);
  fs::create_hard_link(secret, folder.path / "hard");
  EXPECT_NE(locate(folder, "hard").find("got a hard link with names outside"), std::string::npos);
  ASSERT_EQ(::mkfifo((folder.path / "fifo").c_str(), 0600), 0);
  EXPECT_NE(locate(folder, "fifo").find("expected a regular file, got a special file"), std::string::npos);
  EXPECT_NE(locate(folder, ".").find("expected a regular file, got a directory"), std::string::npos);
}

TEST(ExternalData, RefusesWrongOffsetsAndLengths) {
  Folder folder;
  folder.write("data", std::string(64, 'x'));
  EXPECT_NE(locate(folder, "data", "49").find("expected offset 49 + length 16 within the file, got 64 bytes"),
            std::string::npos);
  EXPECT_NE(locate(folder, "data", "18446744073709551615").find("within the file"), std::string::npos);
  EXPECT_NE(locate(folder, "data", "99999999999999999999").find("expected a decimal offset"), std::string::npos);
  EXPECT_NE(locate(folder, "data", "-1").find("expected a decimal offset, got '-1'"), std::string::npos);
  EXPECT_NE(locate(folder, "data", "0", "x").find("expected a decimal length"), std::string::npos);
  EXPECT_NE(locate(folder, "data", "0", "20").find("expected 16 bytes for its shape and type, got length 20"),
            std::string::npos);
  std::string absent = locate(folder, "absent.data");
  EXPECT_NE(absent.find("absent.data of tensor 'layers.0.weight'"), std::string::npos) << absent;
}
