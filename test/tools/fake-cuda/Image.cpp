// What a module's image says of its kernels.
#include "FakeDevice.h"

#include <cstring>
#include <elf.h>

using namespace skim;
using namespace skim::cuda;

/// `.visible .entry NAME(…) … .reqntid N`, and `.target sm_80`, `.version 7.0`.
static Expected<std::map<std::string, unsigned>> readPtx(const std::string &text) {
  std::map<std::string, unsigned> entries;
  size_t target = text.find(".target sm_"), version = text.find(".version ");
  if (target == std::string::npos || version == std::string::npos)
    return fail("ptxas application ptx input, line 1; fatal   : Missing .version directive");
  int arch = std::atoi(text.c_str() + target + 11);
  if (arch > settingNumber("arch", 80))
    return fail("ptxas fatal   : SM version of the PTX is higher than the device's");
  constexpr const char *entry = ".entry ";
  for (size_t at = text.find(entry); at != std::string::npos; at = text.find(entry, at + 1)) {
    size_t name = at + std::strlen(entry), end = text.find('(', name), body = text.find('{', name);
    if (end == std::string::npos || body == std::string::npos)
      return fail("ptxas application ptx input; fatal   : Parsing error near .entry");
    size_t threads = text.find(".reqntid ", name);
    entries[text.substr(name, end - name)] =
        threads < body ? static_cast<unsigned>(std::atoi(text.c_str() + threads + 9)) : 0;
  }
  return entries;
}

/// Sections `.text.NAME` of machine code.
static Expected<std::map<std::string, unsigned>> readElf(const char *image) {
  Elf64_Ehdr header;
  std::memcpy(&header, image, sizeof header);
  std::vector<Elf64_Shdr> sections(header.e_shnum);
  std::memcpy(sections.data(), image + header.e_shoff, sections.size() * sizeof(Elf64_Shdr));
  if (header.e_shstrndx >= sections.size())
    return fail("damaged image");
  const char *names = image + sections[header.e_shstrndx].sh_offset;
  std::map<std::string, unsigned> entries;
  for (const Elf64_Shdr &section : sections)
    if (const char *name = names + section.sh_name; std::strncmp(name, ".text.", 6) == 0)
      entries[name + 6] = 0;
  return entries;
}

Expected<std::map<std::string, unsigned>> cuda::readImage(const char *image, bool &isPtx) {
  isPtx = std::memcmp(image, ELFMAG, SELFMAG) != 0;
  return isPtx ? readPtx(image) : readElf(image);
}
