#include "skim/Runtime/Simulator.h"
#include "skim/Support/Json.h"

#include <algorithm>

using namespace skim;
using namespace skim::sim;

uint64_t Counters::sectors() const {
  uint64_t sum = 0;
  for (const OpCounters &op : ops)
    sum += op.sectors;
  return sum;
}

uint64_t Counters::idealSectors() const {
  uint64_t sum = 0;
  for (const OpCounters &op : ops)
    sum += op.idealSectors;
  return sum;
}

uint64_t Counters::bankConflicts() const {
  uint64_t sum = 0;
  for (const OpCounters &op : ops)
    sum += op.wavefronts - op.idealWavefronts;
  return sum;
}

uint32_t Counters::loadsInFlight() const {
  uint32_t most = 0;
  for (const OpCounters &op : ops)
    if (op.requests)
      most = std::max(most, op.loadsInFlight);
  return most;
}

const BufferCounters *Counters::buffer(std::string_view name) const {
  auto found = std::find_if(buffers.begin(), buffers.end(), [&](const auto &buffer) { return buffer.name == name; });
  return found == buffers.end() ? nullptr : &*found;
}

const OpCounters *Counters::labelled(std::string_view label) const {
  auto found = std::find_if(ops.begin(), ops.end(), [&](const auto &op) { return op.label == label; });
  return found == ops.end() ? nullptr : &*found;
}

std::string Counters::json() const {
  Json operations = Json::array(), memory = Json::array();
  for (const OpCounters &op : ops) {
    if (!op.requests)
      continue;
    Json entry = {
        {"op", op.op}, {"location", op.location}, {"kind", op.kind}, {"requests", op.requests}, {"lanes", op.lanes}};
    if (!op.label.empty())
      entry["label"] = op.label;
    if (op.bytes)
      entry.update({{"width", op.width}, {"bytes", op.bytes}});
    if (op.idealSectors)
      entry.update({{"sectors", op.sectors}, {"ideal_sectors", op.idealSectors}});
    if (op.idealWavefronts)
      entry.update({{"wavefronts", op.wavefronts}, {"ideal_wavefronts", op.idealWavefronts}});
    if (op.products)
      entry["products"] = op.products;
    if (op.loadsInFlight)
      entry.update({{"loads_in_flight", op.loadsInFlight}, {"bytes_in_flight", op.bytesInFlight}});
    operations.push_back(std::move(entry));
  }
  for (const BufferCounters &buffer : buffers) {
    Json entry = {{"name", buffer.name},
                  {"size", buffer.size},
                  {"bytes_read", buffer.bytesRead},
                  {"bytes_written", buffer.bytesWritten}};
    if (buffer.counted)
      entry.update({{"least_reads", buffer.leastReads},
                    {"most_reads", buffer.mostReads},
                    {"least_writes", buffer.leastWrites},
                    {"most_writes", buffer.mostWrites}});
    memory.push_back(std::move(entry));
  }
  return dumpJson({{"kernel", kernel},
                   {"blocks", blocks},
                   {"warps", warps},
                   {"barriers", barriers},
                   {"sectors", sectors()},
                   {"ideal_sectors", idealSectors()},
                   {"bank_conflicts", bankConflicts()},
                   {"loads_in_flight", loadsInFlight()},
                   {"ops", std::move(operations)},
                   {"buffers", std::move(memory)}});
}
