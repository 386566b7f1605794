//===- TemporaryFolder.h - a folder that goes with its test -----*- C++ -*-===//
#ifndef SKIM_TEST_UNIT_SUPPORT_TEMPORARYFOLDER_H
#define SKIM_TEST_UNIT_SUPPORT_TEMPORARYFOLDER_H

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace skim {

class TemporaryFolder {
public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "skim-test-XXXXXX").string();
    path = ::mkdtemp(pattern.data());
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::string operator/(const std::string &name) const { return path + "/" + name; }
  /// Creates a file and returns its path.
  std::string write(const std::string &name, const std::string &contents) const {
    std::ofstream(*this / name, std::ios::binary) << contents;
    return *this / name;
  }
  /// Number of files and folders directly inside.
  size_t entries() const {
    size_t count = 0;
    for (const auto &entry : std::filesystem::directory_iterator(path)) {
      (void)entry;
      ++count;
    }
    return count;
  }
  std::string path;
};

inline std::string slurp(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

} // namespace skim

#endif // SKIM_TEST_UNIT_SUPPORT_TEMPORARYFOLDER_H
