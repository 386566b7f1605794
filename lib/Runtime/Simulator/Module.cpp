#include "Device.h"
#include "Kernel.h"

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <dlfcn.h>

using namespace skim;
using namespace skim::sim;

Module::~Module() {
  if (handle)
    ::dlclose(handle);
}

Expected<std::unique_ptr<Module>> Module::open(const std::string &path) {
  // Without a slash the loader would search its own folders.
  char absolute[PATH_MAX];
  if (!::realpath(path.c_str(), absolute))
    return fail("cannot load simulated kernels", path, "a readable file");
  std::unique_ptr<Module> module(new Module());
  module->handle = ::dlopen(absolute, RTLD_NOW | RTLD_LOCAL);
  auto loaderError = [] {
    const char *text = ::dlerror();
    return std::string(text ? text : "none");
  };
  if (!module->handle)
    return fail("cannot load simulated kernels", path, "a shared object for this machine", loaderError());
  auto *text = static_cast<const char *>(::dlsym(module->handle, SKIM_SIM_DESCRIPTION_SYMBOL));
  if (!text)
    return fail("no simulated kernels", path, "a symbol " SKIM_SIM_DESCRIPTION_SYMBOL, loaderError());
  Expected<std::vector<std::unique_ptr<Kernel>>> kernels = parseDescription(text, path);
  if (!kernels)
    return kernels.takeError();
  module->all = std::move(*kernels);
  for (const std::unique_ptr<Kernel> &kernel : module->all) {
    kernel->code = reinterpret_cast<skim_sim_kernel_fn>(::dlsym(module->handle, kernel->symbol.c_str()));
    if (!kernel->code)
      return fail("no simulated kernels", path, "a symbol " + kernel->symbol, loaderError());
  }
  return module;
}

std::vector<std::string> Module::kernels() const {
  std::vector<std::string> names;
  for (const std::unique_ptr<Kernel> &kernel : all)
    names.push_back(kernel->name);
  return names;
}

uint32_t Module::sharedBytes(std::string_view name) const {
  auto found = std::find_if(all.begin(), all.end(), [&](const auto &kernel) { return kernel->name == name; });
  return found == all.end() ? 0 : static_cast<uint32_t>((*found)->shared);
}

static Error checkLaunch(const Module::Kernel &kernel, const LaunchShape &shape,
                         const std::vector<Argument> &arguments) {
  std::string where = "kernel '" + kernel.name + "'";
  uint64_t threads = 1;
  for (uint32_t extent : shape.block)
    threads *= extent;
  if (threads == 0 || threads > 1024 || std::max({shape.block[0], shape.block[1], shape.block[2]}) > 1024)
    return fail("cannot launch", where, "1 to 1024 threads in a block", std::to_string(threads));
  if (std::min({shape.grid[0], shape.grid[1], shape.grid[2]}) == 0 || shape.grid[1] > 65535 || shape.grid[2] > 65535)
    return fail("cannot launch", where, "a grid of at least one block, at most 65535 in y and z");
  if (uint64_t(shape.begin) + shape.count > shape.grid[0])
    return fail("cannot launch", where, "blocks of the grid's " + std::to_string(shape.grid[0]),
                std::to_string(shape.count) + " from " + std::to_string(shape.begin) + " on");
  // What the largest device has; a target's own limit is its compiler's business.
  constexpr uint64_t most = 227 << 10;
  if (uint64_t(kernel.shared) + shape.dynamicShared > most)
    return fail("cannot launch", where, "at most " + std::to_string(most) + " bytes of shared memory",
                std::to_string(uint64_t(kernel.shared) + shape.dynamicShared));
  if (arguments.size() != kernel.arguments.size())
    return fail("cannot launch", where, std::to_string(kernel.arguments.size()) + " arguments",
                std::to_string(arguments.size()));
  for (size_t i = 0; i < arguments.size(); ++i)
    if (arguments[i].bytes != kernel.arguments[i])
      return fail("cannot launch", where + ", argument " + std::to_string(i),
                  std::to_string(kernel.arguments[i]) + " bytes", std::to_string(arguments[i].bytes));
  return Error::success();
}

const Module::Kernel *Module::kernel(std::string_view name) const {
  auto found = std::find_if(all.begin(), all.end(), [&](const auto &kernel) { return kernel->name == name; });
  return found == all.end() ? nullptr : found->get();
}

Expected<Counters> Module::launch(Device &device, std::string_view name, const LaunchShape &shape,
                                  const std::vector<Argument> &arguments) {
  const Kernel *found = this->kernel(name);
  if (!found)
    return fail("no such kernel", std::string(name));
  const Kernel &kernel = *found;
  if (Error error = checkLaunch(kernel, shape, arguments))
    return error;
  Counters counters;
  counters.kernel = kernel.name;
  for (const Op &op : kernel.ops) {
    OpCounters entry;
    entry.op = op.name;
    entry.location = op.location;
    entry.label = op.label;
    entry.kind = spell(op.kind);
    entry.shared = op.shared;
    entry.width = op.piece;
    entry.loadsInFlight = op.loadsInFlight;
    entry.bytesInFlight = op.bytesInFlight;
    counters.ops.push_back(std::move(entry));
  }
  for (const std::unique_ptr<Buffer> &buffer : device.state().buffers) {
    buffer->bytesRead = buffer->bytesWritten = 0;
    std::fill(buffer->reads.begin(), buffer->reads.end(), 0);
    std::fill(buffer->writes.begin(), buffer->writes.end(), 0);
  }
  std::vector<uint64_t> slots;
  for (const Argument &argument : arguments)
    slots.push_back(argument.bits);
  if (Error error = runKernel(kernel, device.state(), shape, slots, counters))
    return error;
  for (const std::unique_ptr<Buffer> &buffer : device.state().buffers) {
    if (!buffer->bytesRead && !buffer->bytesWritten && !buffer->counted)
      continue;
    BufferCounters entry;
    entry.name = buffer->name;
    entry.address = buffer->base;
    entry.size = buffer->size;
    entry.bytesRead = buffer->bytesRead;
    entry.bytesWritten = buffer->bytesWritten;
    entry.counted = buffer->counted;
    if (buffer->counted && buffer->size) {
      auto [leastRead, mostRead] = std::minmax_element(buffer->reads.begin(), buffer->reads.end());
      auto [leastWrite, mostWrite] = std::minmax_element(buffer->writes.begin(), buffer->writes.end());
      entry.leastReads = *leastRead;
      entry.mostReads = *mostRead;
      entry.leastWrites = *leastWrite;
      entry.mostWrites = *mostWrite;
    }
    counters.buffers.push_back(std::move(entry));
  }
  return counters;
}
