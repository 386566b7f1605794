//===- EmitTest.cpp - a kernel becomes a shared object that runs -----------===//

#include "skim/Target/CPU/Emit.h"
#include "skim-rt/abi.h"
#include "skim/Target/CPU/Linear.h"
#include "skim/Target/Common/KernelBuilder.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

using namespace mlir;
using namespace skim;

TEST(TargetInfo, Names) {
  EXPECT_FALSE(bool(parseCPUTarget("cpu:x86-64-v5")));
  EXPECT_FALSE(bool(parseCPUTarget("gpu")));
  auto wide = parseCPUTarget("cpu-sim:x86-64-v4");
  ASSERT_TRUE(bool(wide)) << wide.message();
  EXPECT_TRUE(wide->simulated);
  EXPECT_EQ(wide->f32Lanes(), 16);
  EXPECT_EQ(wide->lanes, LaneSet::Portable);
  EXPECT_TRUE(hostCanRun(*wide));
}

TEST(Emit, DenseLinear) {
  for (const char *name : {"cpu", "cpu:portable", "cpu-sim:x86-64-v4"}) {
    SCOPED_TRACE(name);
    auto target = parseCPUTarget(name);
    ASSERT_TRUE(bool(target)) << target.message();
    MLIRContext context;
    prepareEmission(context);
    OpBuilder builder(&context);
    Location loc = builder.getUnknownLoc();
    OwningOpRef<ModuleOp> module = ModuleOp::create(loc);
    KernelBuilder k(builder, loc);
    auto function = KernelBuilder::beginFunction(builder, *module, loc, "test",
                                                 {k.ptr(), k.ptr(), k.ptr(), k.i64(), k.ptr(), k.i32(), k.i32()});
    function.setPublic();
    auto arguments = function.getArguments();
    LinearCall call;
    call.k = 37;
    LinearPanel panel;
    panel.term = DenseAttr::get(&context, Float32Type::get(&context));
    panel.n = 5;
    panel.weights = {0};
    call.panels.push_back(panel);
    KernelValues values;
    values.args = arguments[0];
    values.x = arguments[1];
    values.y = arguments[2];
    values.yStride = k.i64(5);
    values.rows = arguments[3];
    values.shared = values.priv = arguments[4];
    values.thread = arguments[5];
    values.threads = arguments[6];
    Error error = emitLinear(builder, loc, *module, *target, call, values);
    ASSERT_FALSE(bool(error)) << error.message();

    std::string path = testing::TempDir() + "skim_emit_test_" + std::to_string(getpid()) + ".so";
    error = emitSharedObject(*module, *target, path);
    ASSERT_FALSE(bool(error)) << error.message();
    void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library, nullptr) << dlerror();
    auto run =
        reinterpret_cast<void (*)(const skim_step_args *, const float *, float *, int64_t, char *, int32_t, int32_t)>(
            dlsym(library, "test"));
    ASSERT_NE(run, nullptr);
    std::vector<float> w(5 * 37), x(2 * 37), y(2 * 5);
    for (size_t i = 0; i < w.size(); ++i)
      w[i] = float(int(i * 7 % 13) - 6);
    for (size_t i = 0; i < x.size(); ++i)
      x[i] = float(int(i * 5 % 11) - 5);
    const void *weights[] = {w.data()};
    std::vector<char> scratch(linearScratch(*target, call).perThread);
    skim_step_args args = {};
    args.weights = weights;
    for (int thread = 0; thread < 3; ++thread)
      run(&args, x.data(), y.data(), 2, scratch.data(), thread, 3);
    for (int m = 0; m < 2; ++m)
      for (int n = 0; n < 5; ++n) {
        float expected = 0;
        for (int i = 0; i < 37; ++i)
          expected += w[n * 37 + i] * x[m * 37 + i];
        EXPECT_EQ(y[m * 5 + n], expected);
      }
    dlclose(library);
    unlink(path.c_str());
  }
}
