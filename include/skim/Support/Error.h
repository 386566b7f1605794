//===- Error.h - one-line errors with a place and an expectation -*- C++ -*-===//
//
// Every failure that a user can cause is one line:
//   skim: error: WHAT at WHERE: expected E, got G (hint)
// Support knows neither MLIR nor LLVM, so that the runtime can use it too.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_SUPPORT_ERROR_H
#define SKIM_SUPPORT_ERROR_H

#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

namespace skim {

/// What failed, where, what was expected and what was found. `where`,
/// `expected`, `got` and `hint` may be empty.
struct Failure {
  std::string what;
  std::string where;
  std::string expected;
  std::string got;
  std::string hint;

  /// `WHAT at WHERE: expected E, got G (hint)`, on one line (line breaks and
  /// control characters of the input are escaped).
  std::string message() const;
};

/// Success, or a Failure. Test it: `if (Error e = f()) return e;`
class [[nodiscard]] Error {
public:
  Error() = default;
  Error(Failure failure) : failure(std::move(failure)) {}
  static Error success() { return Error(); }
  /// True if this is a failure.
  explicit operator bool() const { return failure.has_value(); }
  const Failure &get() const { return *failure; }
  std::string message() const { return failure ? failure->message() : std::string(); }

private:
  std::optional<Failure> failure;
};

/// A value, or a Failure. `auto v = f(); if (!v) return v.takeError(); use(*v);`
template <typename T> class [[nodiscard]] Expected {
public:
  Expected(T value) : storage(std::in_place_index<0>, std::move(value)) {}
  Expected(Failure failure) : storage(std::in_place_index<1>, std::move(failure)) {}
  Expected(Error error) : storage(std::in_place_index<1>, error.get()) {}
  template <typename U, typename = std::enable_if_t<std::is_convertible_v<U &&, T>>>
  Expected(U &&value) : storage(std::in_place_index<0>, T(std::forward<U>(value))) {}

  /// True if there is a value.
  explicit operator bool() const { return storage.index() == 0; }
  T &operator*() { return std::get<0>(storage); }
  const T &operator*() const { return std::get<0>(storage); }
  T *operator->() { return &std::get<0>(storage); }
  const T *operator->() const { return &std::get<0>(storage); }
  const Failure &failure() const { return std::get<1>(storage); }
  std::string message() const { return storage.index() ? failure().message() : std::string(); }
  Error takeError() { return storage.index() ? Error(std::move(std::get<1>(storage))) : Error(); }

private:
  std::variant<T, Failure> storage;
};

/// `fail("damaged manifest", path, "version 1", "version 7", "rebuild with ...")`
inline Failure fail(std::string what, std::string where = {}, std::string expected = {}, std::string got = {},
                    std::string hint = {}) {
  return Failure{std::move(what), std::move(where), std::move(expected), std::move(got), std::move(hint)};
}

} // namespace skim

#endif // SKIM_SUPPORT_ERROR_H
