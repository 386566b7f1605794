//===- Plan.cpp - which kernel call runs when, on which memory --------------===//

#include "Plan.h"

using namespace skim;
using namespace skim::step;

int Plan::addBuffer(Buffer::Kind kind, int64_t bytesPerRow) {
  Buffer buffer;
  buffer.kind = kind;
  buffer.bytesPerRow = (bytesPerRow + 63) / 64 * 64;
  buffers.push_back(buffer);
  return static_cast<int>(buffers.size()) - 1;
}

View Plan::addRows(int64_t channels, bool gathered) {
  View view;
  view.buffer = addBuffer(Buffer::Scratch, channels * 4);
  view.stride = view.channels = channels;
  view.gathered = gathered;
  return view;
}

void Plan::addTask(Task task) {
  int index = static_cast<int>(tasks.size());
  auto after = [&](int other) {
    if (other >= 0)
      task.level = std::max(task.level, tasks[other].level + 1);
  };
  for (int read : task.reads)
    after(buffers[read].lastWriter);
  for (int write : task.writes) {
    after(buffers[write].lastWriter);
    for (int reader : buffers[write].readers)
      after(reader);
  }
  auto use = [&](int id) {
    Buffer &buffer = buffers[id];
    buffer.firstLevel = buffer.firstLevel < 0 ? task.level : std::min(buffer.firstLevel, task.level);
    buffer.lastLevel = std::max(buffer.lastLevel, task.level);
  };
  for (int read : task.reads) {
    use(read);
    buffers[read].readers.push_back(index);
  }
  for (int write : task.writes) {
    use(write);
    buffers[write].lastWriter = index;
    buffers[write].readers.clear();
  }
  levels = std::max(levels, task.level + 1);
  tasks.push_back(std::move(task));
}

void Plan::assignMemory() {
  std::vector<Buffer *> order;
  for (int level = 0; level < levels; ++level)
    for (Buffer &buffer : buffers)
      if (buffer.kind == Buffer::Scratch && buffer.firstLevel == level)
        order.push_back(&buffer);
  std::vector<Buffer *> placed;
  for (Buffer *buffer : order) {
    // Levels are closed intervals: tasks of one level run at the same time.
    std::vector<Buffer *> live;
    for (Buffer *other : placed)
      if (other->lastLevel >= buffer->firstLevel && other->firstLevel <= buffer->lastLevel)
        live.push_back(other);
    std::sort(live.begin(), live.end(), [](const Buffer *a, const Buffer *b) { return a->offset < b->offset; });
    int64_t offset = 0;
    for (Buffer *other : live) {
      if (other->offset - offset >= buffer->bytesPerRow)
        break;
      offset = std::max(offset, other->offset + other->bytesPerRow);
    }
    buffer->offset = offset;
    bytesPerRow = std::max(bytesPerRow, offset + buffer->bytesPerRow);
    placed.push_back(buffer);
  }
}
