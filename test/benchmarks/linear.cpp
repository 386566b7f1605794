//===- linear.cpp - a linear kernel beside the memory and OpenBLAS ----------===//
//
// linear --shape 14336x4096 --format w4g128,k4,k3 --batch 1,512 [--mode bf16] [--target cpu] [--threads 2]
//        [--seconds 2] [--asm]
//
//===----------------------------------------------------------------------===//

#include "skim/Skim/SkimDialect.h"
#include "skim/Support/Resources.h"
#include "skim/Target/CPU/LinearBench.h"

#include <CLI/CLI.hpp>
#include <cblas.h>
#include <cstdio>

extern "C" void openblas_set_num_threads(int);

int main(int argc, char **argv) {
  CLI::App app("Times linear kernels in turns with a read of memory and, for batches, OpenBLAS sgemm");
  std::vector<std::string> shapes = {"14336x4096"}, formats = {"w4g128"}, modes = {""};
  std::vector<int64_t> batches = {1};
  std::string targetName = "cpu";
  std::vector<std::string> layouts = {""};
  int threads = 2;
  double seconds = 2;
  app.add_option("--shape", shapes, "NxK, output rows by input columns")->delimiter(',');
  app.add_option("--format", formats, "encodings")->delimiter(',');
  app.add_option("--mode", modes, "f32 or bf16 (default: the target's)")->delimiter(',');
  app.add_option("--batch", batches, "rows of x")->delimiter(',');
  app.add_option("--target", targetName, "a CPU target");
  app.add_option("--layout", layouts, "rows or turned (default: a package's)")->delimiter(',');
  app.add_option("--threads", threads, "threads");
  app.add_option("--seconds", seconds, "time spent on each measurement");
  CLI11_PARSE(app, argc, argv);

  auto target = skim::parseCPUTarget(targetName);
  if (!target) {
    std::fprintf(stderr, "linear: error: %s\n", target.message().c_str());
    return 1;
  }
  openblas_set_num_threads(threads);
  skim::ThreadTeam team(threads);
  skim::ReadProbe probe(size_t(512) << 20);
  mlir::MLIRContext context;
  std::printf("%-12s %-5s %6s %6s %5s %10s %8s %8s %9s %9s %9s\n", "format", "mode", "N", "K", "M", "us", "GB/s",
              "read", "fraction", "GFLOPS", "sgemm us");
  for (const std::string &shape : shapes)
    for (const std::string &format : formats)
      for (const std::string &mode : modes)
        for (int64_t batch : batches)
          for (const std::string &layout : layouts) {
            skim::LinearBenchOptions options;
            if (std::sscanf(shape.c_str(), "%ldx%ld", &options.n, &options.k) != 2)
              return 2;
            options.format = format;
            options.layout = layout;
            options.mode = mode;
            options.batch = batch;
            options.threads = threads;
            options.seconds = seconds;
            double sgemm = 1e30;
            std::vector<float> x, w, y;
            auto baseline = [&] {
              if (batch < 8)
                return;
              x.resize(batch * options.k, 0.5f);
              w.resize(options.n * options.k, 0.25f);
              y.resize(batch * options.n);
              skim::Stopwatch watch;
              cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, int(batch), int(options.n), int(options.k), 1.0f,
                          x.data(), int(options.k), w.data(), int(options.k), 0.0f, y.data(), int(options.n));
              sgemm = std::min(sgemm, watch.seconds());
            };
            auto result = skim::benchLinear(context, *target, options, team, probe, baseline);
            if (!result) {
              std::fprintf(stderr, "linear: error: %s\n", result.message().c_str());
              return 1;
            }
            double gflops = 2e-3 * double(options.n) * double(options.k) * double(batch) / result->microseconds;
            std::printf("%-12s %-5s %6ld %6ld %5ld %10.1f %8.2f %8.2f %8.1f%% %9.1f",
                        (format + (layout.empty() ? "" : " " + layout)).c_str(), result->mode.c_str(), options.n,
                        options.k, batch, result->microseconds, result->gbps, result->readBandwidthGbps,
                        100 * result->fractionOfBandwidth, gflops);
            if (batch >= 8)
              std::printf(" %9.1f", sgemm * 1e6);
            std::printf("\n");
            std::fflush(stdout);
          }
  return 0;
}
