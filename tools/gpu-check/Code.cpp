//===- Code.cpp - kernels in the folder -----------------------------------===//

#include "Code.h"
#include "skim/Support/AtomicOutput.h"
#include "skim/Support/MappedFile.h"

#include <filesystem>
#include <zlib.h>

using namespace skim;
using namespace skim::gpucheck;

// As RFC 1952 has it, so that `zcat` shows the PTX.
constexpr int kGzipWindow = 15 + 16;

static Expected<std::string> compressText(const std::string &text, const std::string &where) {
  z_stream stream{};
  if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kGzipWindow, 8, Z_DEFAULT_STRATEGY) != Z_OK)
    return fail("cannot compress kernels", where, "memory for it", "none");
  std::string result(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef *>(const_cast<char *>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef *>(result.data());
  stream.avail_out = static_cast<uInt>(result.size());
  const int status = deflate(&stream, Z_FINISH);
  result.resize(stream.total_out);
  deflateEnd(&stream);
  if (status != Z_STREAM_END)
    return fail("cannot compress kernels", where, "all of them", std::to_string(stream.total_in) + " bytes");
  return result;
}

static Expected<std::string> expandText(const std::string &bytes, const std::string &where) {
  z_stream stream{};
  if (inflateInit2(&stream, kGzipWindow) != Z_OK)
    return fail("cannot expand kernels", where, "memory for it", "none");
  stream.next_in = reinterpret_cast<Bytef *>(const_cast<char *>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  std::string result, part(1 << 18, '\0');
  int status = Z_OK;
  while (status == Z_OK) {
    stream.next_out = reinterpret_cast<Bytef *>(part.data());
    stream.avail_out = static_cast<uInt>(part.size());
    status = inflate(&stream, Z_NO_FLUSH);
    result.append(part.data(), part.size() - stream.avail_out);
  }
  const bool whole = status == Z_STREAM_END && stream.avail_in == 0;
  const std::string reason = stream.msg ? stream.msg : "one that ends early or goes on behind its end";
  inflateEnd(&stream);
  if (!whole)
    return fail("damaged kernels", where, "a whole file as gzip writes it", reason, "copy the folder again");
  return result;
}

Error gpucheck::writeCode(const std::string &stem, const std::string &ptx, const std::string &cubin) {
  const std::string where = stem + ".ptx.gz";
  Expected<std::string> compressed = compressText(ptx, where);
  if (!compressed)
    return compressed.takeError();
  if (Error error = writeFileAtomically(where, *compressed))
    return error;
  return cubin.empty() ? Error::success() : writeFileAtomically(stem + ".cubin", cubin);
}

Expected<Code> gpucheck::readCode(const std::string &stem) {
  Code code;
  code.where = stem + ".ptx.gz";
  Expected<std::string> compressed = readTextFile(code.where);
  if (!compressed)
    return compressed.takeError();
  Expected<std::string> ptx = expandText(*compressed, code.where);
  if (!ptx)
    return ptx.takeError();
  code.ptx = std::move(*ptx);
  if (std::filesystem::exists(stem + ".cubin")) {
    Expected<std::string> cubin = readTextFile(stem + ".cubin");
    if (!cubin)
      return cubin.takeError();
    code.cubin = std::move(*cubin);
  }
  return code;
}
