//===- LowerLinears.cpp - linears of a model function as launches -----------===//

#include "StepGenerator.h"
#include "skim/Target/Common/ModelValues.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

bool StepGenerator::isInputOnly(Value value) {
  SmallVector<Operation *> users(value.getUsers());
  auto first = users.empty() ? LinearOp() : dyn_cast<LinearOp>(users.front());
  if (!first)
    return false;
  SmallVector<LinearOp> linears = callOf(first);
  return users.size() == linears.size() && llvm::all_of(linears, [&](LinearOp linear) {
           return linear.getInput() == value && llvm::is_contained(users, linear.getOperation());
         });
}

void StepGenerator::defer(Operation *op, const View &like, std::shared_ptr<RowSource> source,
                          ArrayRef<StepArgument> arguments) {
  deferred[op->getResult(0)] = {std::move(source), llvm::to_vector(arguments), like.gathered, op};
}

Expected<LinearCall> StepGenerator::shapeOf(ArrayRef<LinearOp> linears) {
  LinearOp first = linears.front();
  LinearCall call;
  call.k = channelsOf(first.getInput());
  call.mode = first.getMode().value_or("f32") == "f32" ? "f16" : first.getMode()->str();
  int64_t columns = 0;
  for (LinearOp linear : linears) {
    LinearPanel panel;
    Expected<SmallVector<StepTensor>> tensors =
        tensorsOfWeight(linear, linear.getWeight(), linear.getLayer().value_or(""), panel.term);
    if (!tensors)
      return tensors.takeError();
    panel.n = channelsOf(linear.getResult());
    panel.weights.assign(tensors->size(), 0);
    panel.yColumn = columns;
    columns += panel.n;
    panel.biasWeight = linear.getBias() ? 0 : -1;
    call.panels.push_back(std::move(panel));
  }
  return call;
}

void StepGenerator::findFamilies() {
  SmallVector<LinearCall> calls;
  DenseSet<Operation *> seen;
  forward.walk([&](LinearOp first) {
    if (seen.contains(first))
      return;
    SmallVector<LinearOp> linears = callOf(first);
    seen.insert(linears.begin(), linears.end());
    // What cannot be lowered says so when it is.
    if (Expected<LinearCall> call = shapeOf(linears))
      calls.push_back(std::move(*call));
  });
  families = LinearFamilies(calls, target);
}

Error StepGenerator::lowerLinear(LinearOp first) {
  SmallVector<LinearOp> linears = callOf(first);
  Expected<LinearCall> shape = shapeOf(linears);
  if (!shape)
    return shape.takeError();
  LinearCall call = std::move(*shape);
  int64_t columns = 0;
  for (auto [linear, panel] : llvm::zip(linears, call.panels)) {
    done.insert(linear);
    StringRef layer = linear.getLayer().value_or("");
    Expected<SmallVector<int64_t>> components = weights.weight(linear, linear.getWeight(), layer, panel.term);
    if (!components)
      return components.takeError();
    panel.weights.assign(components->begin(), components->end());
    columns += panel.n;
    if (Value bias = linear.getBias()) {
      Expected<int64_t> index = weights.vector(linear, bias, layer);
      if (!index)
        return index.takeError();
      panel.biasWeight = *index;
    }
  }

  // x is in memory, or the launch that packs it makes it.
  SmallVector<StepArgument> x;
  std::shared_ptr<RowSource> source;
  bool gathered;
  if (auto found = deferred.find(first.getInput()); found != deferred.end()) {
    source = found->second.source;
    x = found->second.arguments;
    gathered = found->second.gathered;
    deferred.erase(found);
  } else {
    Expected<View> input = viewOf(first, first.getInput());
    if (!input)
      return input.takeError();
    View rows = contiguous(*input);
    x = {pointer(rows)};
    gathered = rows.gathered;
  }

  View y;
  if (linears.size() == 1 && takeResidual(first, y)) {
    call.epilogue = LinearEpilogue::Add;
  } else if (linears.size() == 1) {
    y = newResult(first.getResult(), gathered);
    bind(first.getResult(), y);
  } else {
    y = addRows(columns, gathered);
    for (auto [linear, panel] : llvm::zip(linears, call.panels)) {
      View part = y;
      part.column = panel.yColumn;
      part.channels = panel.n;
      bind(linear.getResult(), part);
    }
  }
  return launchLinear(first, call, source.get(), x, y, gathered);
}

Error StepGenerator::launchLinear(Operation *op, const LinearCall &call, const RowSource *source,
                                  ArrayRef<StepArgument> x, const View &y, bool gathered) {
  GPUTarget own = target;
  own.library &= !gathered; // rows of logits are few, however many the step has
  Expected<LinearPlan> plan =
      emitLinear(place.builder, op->getLoc(), place.module, own, call, m, source, families.find(call));
  if (!plan)
    return plan.takeError();
  int scratch = plan->scratchBytes ? addBuffer(plan->scratchBytes) : -1;
  for (const LinearLaunch &planned : plan->launches) {
    StepLaunch launch{planned.kernel, planned.grid, planned.threads, gathered, {}, {}, planned.product};
    for (const LaunchArgument &argument : planned.arguments)
      switch (argument.kind) {
      case LaunchArgument::X:
        launch.arguments.push_back(x[argument.value]);
        break;
      case LaunchArgument::Y:
        launch.arguments.push_back({StepArgument::Buffer, y.buffer, y.column * 4 + argument.offset});
        break;
      case LaunchArgument::Scratch:
        launch.arguments.push_back({StepArgument::Buffer, scratch, argument.offset});
        break;
      case LaunchArgument::Counters:
        launch.arguments.push_back({StepArgument::Counters});
        break;
      case LaunchArgument::Weight:
        launch.arguments.push_back({StepArgument::Weight, argument.value, argument.offset});
        break;
      case LaunchArgument::Rows:
        launch.arguments.push_back(input(gathered ? "wanted_rows" : "rows"));
        break;
      case LaunchArgument::Stride:
        launch.arguments.push_back(stride(y));
        break;
      case LaunchArgument::Constant:
        launch.arguments.push_back(number(argument.value));
        break;
      case LaunchArgument::Gate:
        return failAt(op, "unsupported linear", "an epilogue of this step", "a gate");
      }
    addLaunch(std::move(launch));
  }
  return Error::success();
}
