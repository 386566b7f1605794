#include "Model.h"
#include "skim/Support/Sha256.h"

#include <climits>
#include <cstdlib>
#include <dlfcn.h>
#include <utility>

using namespace skim;
using namespace skim::rt;

Code::Code(Code &&other) noexcept
    : step(other.step), sample(other.sample), handle(std::exchange(other.handle, nullptr)) {}

Code::~Code() {
  if (handle)
    ::dlclose(handle);
}

static std::string lastLoaderError() {
  const char *text = ::dlerror();
  return text ? text : "no such symbol";
}

Expected<Code> Code::load(const std::string &path, const std::string &sha256, bool hasStep) {
  Expected<std::string> digest = sha256OfFile(path);
  if (!digest)
    return digest.takeError();
  if (*digest != sha256)
    return fail("damaged code of a package", path, "SHA-256 " + sha256, *digest,
                "skim compile rebuilds it from the package's IR");
  // Without a slash the loader would search its own folders.
  char absolute[PATH_MAX];
  if (!::realpath(path.c_str(), absolute))
    return fail("cannot load a package's code", path, "a path of less than " + std::to_string(PATH_MAX) + " bytes");
  Code code;
  code.handle = ::dlopen(absolute, RTLD_NOW | RTLD_LOCAL);
  if (!code.handle)
    return fail("cannot load a package's code", path, "a shared object for this machine", lastLoaderError());
  auto *version = static_cast<const int32_t *>(::dlsym(code.handle, SKIM_ABI_VERSION_SYMBOL));
  if (!version)
    return fail("not a package's code", path, std::string("a symbol ") + SKIM_ABI_VERSION_SYMBOL, lastLoaderError());
  if (*version != SKIM_ABI_VERSION)
    return fail("code for another runtime", path, "ABI version " + std::to_string(SKIM_ABI_VERSION),
                std::to_string(*version), "rebuild the package with skim compile");
  code.step = reinterpret_cast<skim_step_fn>(::dlsym(code.handle, SKIM_STEP_SYMBOL));
  code.sample = reinterpret_cast<skim_sample_fn>(::dlsym(code.handle, SKIM_SAMPLE_SYMBOL));
  for (auto [symbol, found] : {std::pair(SKIM_STEP_SYMBOL, !hasStep || code.step != nullptr),
                               std::pair(SKIM_SAMPLE_SYMBOL, code.sample != nullptr)})
    if (!found)
      return fail("not a package's code", path, std::string("a symbol ") + symbol, "none");
  return code;
}
