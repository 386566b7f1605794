//===- TestPackage.h - packages around the hand-written model ----*- C++ -*-===//
#ifndef SKIM_TEST_UNIT_RUNTIME_TESTPACKAGE_H
#define SKIM_TEST_UNIT_RUNTIME_TESTPACKAGE_H

#include "skim/Support/Json.h"

#include <cstdint>
#include <string>
#include <vector>

namespace skim::test {

inline constexpr int64_t vocabulary = 40;

/// A package of Model.c in a folder of its own, removed at the end. Change
/// `manifest` and save() again to damage it.
class TestPackage {
public:
  /// \param code the shared object's name: a target of CMakeLists.txt.
  explicit TestPackage(const std::string &code = "SkimTestModel");
  ~TestPackage();
  TestPackage(const TestPackage &) = delete;

  /// Writes the manifest, its hashes renewed.
  void save();
  /// Writes a file of the package.
  void write(const std::string &name, const std::string &contents) const;
  std::string read(const std::string &name) const;
  /// The program in the manifest.
  Json &program() { return manifest["targets"]["cpu:test"]; }

  std::string folder;
  Json manifest;
};

/// Logits of the last of `tokens`, as Model.c defines them.
std::vector<float> expectedLogits(const std::vector<int32_t> &tokens);

} // namespace skim::test

#endif // SKIM_TEST_UNIT_RUNTIME_TESTPACKAGE_H
