#include "Kernel.h"
#include "skim/Support/Json.h"

#include <algorithm>
#include <iterator>

using namespace skim;
using namespace skim::sim;

static constexpr std::string_view kKinds[] = {
    "load",  "store", "atomic",   "copy", "commit",      "wait",  "barrier",      "syncwarp",   "shuffle",     "vote",
    "redux", "elect", "ldmatrix", "mma",  "wgmma_fence", "wgmma", "wgmma_commit", "wgmma_wait", "fence_proxy", "loop"};

std::string_view sim::spell(Kind kind) { return kKinds[static_cast<size_t>(kind)]; }

static Expected<Op> parseOp(const JsonCursor &value) {
  Op op;
  Expected<std::string> kind = value.string("kind"), name = value.string("name"), location = value.string("at"),
                        label = value.stringOr("label", "");
  Expected<bool> shared = value.booleanOr("shared", false);
  Expected<int64_t> bytes = value.integerOr("bytes", 0, 0, 1 << 16), piece = value.integerOr("piece", 0, 0, 16),
                    flight = value.integerOr("in_flight", 0, 0, INT32_MAX),
                    flightBytes = value.integerOr("bytes_in_flight", 0, 0, INT32_MAX);
  for (const auto *text : {&kind, &name, &location, &label})
    if (!*text)
      return text->failure();
  if (!shared)
    return shared.failure();
  for (const auto *number : {&bytes, &piece, &flight, &flightBytes})
    if (!*number)
      return number->failure();
  const auto *spelled = std::find(std::begin(kKinds), std::end(kKinds), *kind);
  if (spelled == std::end(kKinds))
    return value.mismatch("an operation of a known kind");
  op.kind = static_cast<Kind>(spelled - kKinds);
  op.name = *name;
  op.location = *location;
  op.label = *label;
  op.shared = *shared;
  op.bytes = static_cast<uint32_t>(*bytes);
  op.piece = static_cast<uint32_t>(*piece);
  if ((op.kind == Kind::Load || op.kind == Kind::Store || op.kind == Kind::Atomic || op.kind == Kind::Copy) &&
      (!op.piece || op.bytes % op.piece || op.piece & (op.piece - 1)))
    return value.mismatch("bytes in pieces of a power of two");
  op.loadsInFlight = static_cast<uint32_t>(*flight);
  op.bytesInFlight = static_cast<uint32_t>(*flightBytes);
  if (std::optional<JsonCursor> list = value.find("params")) {
    Expected<std::vector<int64_t>> params = list->integers(0, 1 << 16);
    if (!params)
      return params.takeError();
    if (params->size() > op.params.size())
      return list->mismatch("at most 8 parameters");
    std::copy(params->begin(), params->end(), op.params.begin());
  }
  return op;
}

static Expected<std::unique_ptr<Module::Kernel>> parseKernel(const JsonCursor &value) {
  auto kernel = std::make_unique<Module::Kernel>();
  Expected<std::string> name = value.string("name"), symbol = value.string("symbol");
  Expected<int64_t> shared = value.integer("shared", 0, 1 << 20),
                    registers = value.integerOr("registers", 0, 0, UINT16_MAX);
  Expected<JsonCursor> arguments = value.member("arguments"), ops = value.member("ops");
  for (const auto *text : {&name, &symbol})
    if (!*text)
      return text->failure();
  for (const auto *number : {&shared, &registers})
    if (!*number)
      return number->failure();
  for (const auto *list : {&arguments, &ops})
    if (!*list)
      return list->failure();
  Expected<std::vector<int64_t>> widths = arguments->integers(1, 8);
  Expected<std::vector<JsonCursor>> elements = ops->elements();
  if (!widths)
    return widths.takeError();
  if (!elements)
    return elements.takeError();
  kernel->name = *name;
  kernel->symbol = *symbol;
  kernel->shared = static_cast<uint32_t>(*shared);
  kernel->registers = static_cast<uint32_t>(*registers);
  kernel->arguments.assign(widths->begin(), widths->end());
  for (const JsonCursor &element : *elements) {
    Expected<Op> op = parseOp(element);
    if (!op)
      return op.takeError();
    kernel->ops.push_back(std::move(*op));
  }
  return kernel;
}

Expected<std::vector<std::unique_ptr<Module::Kernel>>> sim::parseDescription(std::string_view text,
                                                                             const std::string &where) {
  Expected<Json> json = parseJson(text, where);
  if (!json)
    return json.takeError();
  JsonCursor root(*json, where);
  Expected<int64_t> version = root.integer("version");
  if (!version)
    return version.takeError();
  if (*version != SKIM_SIM_VERSION)
    return fail("kernels for another simulator", where, "version " + std::to_string(SKIM_SIM_VERSION),
                std::to_string(*version), "rebuild the package with skim compile");
  Expected<JsonCursor> list = root.member("kernels");
  if (!list)
    return list.takeError();
  Expected<std::vector<JsonCursor>> elements = list->elements();
  if (!elements)
    return elements.takeError();
  std::vector<std::unique_ptr<Module::Kernel>> kernels;
  for (const JsonCursor &element : *elements) {
    Expected<std::unique_ptr<Module::Kernel>> kernel = parseKernel(element);
    if (!kernel)
      return kernel.takeError();
    kernels.push_back(std::move(*kernel));
  }
  return kernels;
}
