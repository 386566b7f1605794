//===- LinearLibrary.cpp - linear kernels by themselves ---------------------===//

#include "skim/Target/CPU/LinearLibrary.h"

#include "skim-rt/abi.h"
#include "skim/Target/CPU/Emit.h"
#include "skim/Target/Common/KernelBuilder.h"
#include "llvm/Support/FileSystem.h"

#include <barrier>
#include <dlfcn.h>
#include <thread>

using namespace mlir;
using namespace skim;

//===----------------------------------------------------------------------===//
// ThreadTeam
//===----------------------------------------------------------------------===//

struct ThreadTeam::State {
  explicit State(int32_t threads) : start(threads), inside(threads) {}
  std::barrier<> start, inside;
  const std::function<void(int32_t)> *body = nullptr; // null: the threads end
  std::vector<std::thread> threads;
};

ThreadTeam::ThreadTeam(int32_t threads) : state(std::make_unique<State>(threads)) {
  for (int32_t thread = 1; thread < threads; ++thread)
    state->threads.emplace_back([this, thread] {
      for (;;) {
        state->start.arrive_and_wait();
        if (!state->body)
          return;
        (*state->body)(thread);
        state->start.arrive_and_wait();
      }
    });
}

ThreadTeam::~ThreadTeam() {
  state->body = nullptr;
  state->start.arrive_and_wait();
  for (std::thread &thread : state->threads)
    thread.join();
}

int32_t ThreadTeam::size() const { return static_cast<int32_t>(state->threads.size()) + 1; }

void ThreadTeam::run(const std::function<void(int32_t)> &body) {
  state->body = &body;
  state->start.arrive_and_wait();
  body(0);
  state->start.arrive_and_wait();
}

void ThreadTeam::barrier(void *context, int32_t) {
  static_cast<ThreadTeam *>(context)->state->inside.arrive_and_wait();
}

//===----------------------------------------------------------------------===//
// LinearLibrary
//===----------------------------------------------------------------------===//

using KernelFunction = void (*)(const skim_step_args *, const float *, float *, int64_t rows, char *shared, char *priv,
                                int32_t thread, int32_t threads);

struct LinearLibrary::Kernel {
  LinearScratch scratch;
  KernelFunction function;
};

static Error emitCase(OpBuilder &builder, ModuleOp module, const TargetInfo &target, const LinearCase &one,
                      const LinearCall &call, const std::string &name) {
  Location loc = builder.getUnknownLoc();
  KernelBuilder b(builder, loc);
  func::FuncOp function = KernelBuilder::beginFunction(
      builder, module, loc, name, {b.ptr(), b.ptr(), b.ptr(), b.i64(), b.ptr(), b.ptr(), b.i32(), b.i32()});
  function.setPublic();
  auto arguments = function.getArguments();
  KernelValues values;
  values.args = arguments[0];
  values.x = arguments[1];
  values.y = arguments[2];
  values.yStride = b.i64(one.n);
  values.rows = arguments[3];
  values.shared = arguments[4];
  values.priv = arguments[5];
  values.thread = arguments[6];
  values.threads = arguments[7];
  return emitLinear(builder, loc, module, target, call, values);
}

Expected<std::unique_ptr<LinearLibrary>> LinearLibrary::build(MLIRContext &context, const TargetInfo &target,
                                                              ArrayRef<LinearCase> cases) {
  if (!hostCanRun(target))
    return fail("cannot run code", target.name, "a host with " + target.features, "this one");
  prepareEmission(context);
  OpBuilder builder(&context);
  OwningOpRef<ModuleOp> module = ModuleOp::create(builder.getUnknownLoc());
  std::unique_ptr<LinearLibrary> library(new LinearLibrary());
  for (auto [index, one] : llvm::enumerate(cases)) {
    LinearCall call;
    call.k = one.k;
    call.mode = one.mode;
    call.epilogue = one.epilogue;
    LinearPanel panel;
    panel.term = one.term;
    panel.n = one.n;
    panel.layout = one.layout;
    int64_t components = getComponents(one.term, {one.n, one.k}).size();
    for (int64_t i = 0; i < components; ++i)
      panel.weights.push_back(i);
    panel.biasWeight = one.biased ? components : -1;
    call.panels.push_back(panel);
    if (Error error = emitCase(builder, *module, target, one, call, "linear" + std::to_string(index)))
      return error;
    library->kernels.push_back({linearScratch(target, call), nullptr});
  }

  SmallString<128> path;
  if (std::error_code code = llvm::sys::fs::createTemporaryFile("skim-linear", "so", path))
    return fail("cannot write", "the folder of temporary files", "", code.message());
  Error error = emitSharedObject(*module, target, path.str().str());
  if (!error) {
    library->handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library->handle)
      error = fail("cannot load", path.str().str(), "", dlerror());
  }
  llvm::sys::fs::remove(path);
  if (error)
    return error;
  for (auto [index, kernel] : llvm::enumerate(library->kernels))
    kernel.function =
        reinterpret_cast<KernelFunction>(dlsym(library->handle, ("linear" + std::to_string(index)).c_str()));
  return library;
}

LinearLibrary::~LinearLibrary() {
  if (handle)
    dlclose(handle);
}

void LinearLibrary::run(size_t index, const LinearRun &run, ThreadTeam &team) {
  const Kernel &kernel = kernels[index];
  auto round = [](int64_t bytes) { return (bytes + 63) / 64 * 64; };
  int64_t shared = round(kernel.scratch.sharedFixed + kernel.scratch.sharedPerRow * run.rows);
  int64_t priv = round(kernel.scratch.perThread);
  size_t needed = shared + priv * team.size() + 64;
  if (scratch.size() < needed)
    scratch.resize(needed);
  char *base = reinterpret_cast<char *>(round(reinterpret_cast<intptr_t>(scratch.data())));

  std::vector<const void *> weights = run.components;
  weights.push_back(run.bias);
  skim_step_args args = {};
  args.weights = weights.data();
  args.barrier = ThreadTeam::barrier;
  args.barrier_context = &team;
  team.run([&](int32_t thread) {
    kernel.function(&args, run.x, run.y, run.rows, base, base + shared + priv * thread, thread, team.size());
  });
}
