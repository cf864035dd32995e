#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include <multistate/util/bytes.hpp>
#include <multistate/types/error.hpp>

namespace multistate::detail {

// Every save begins with eight letters, 0x01020304 in the byte order of the machine, and the version of its format. The
// version grows with every change of what follows.

inline constexpr std::uint32_t save_byte_order = 0x01020304u;
inline constexpr std::uint32_t save_version = 2;
inline constexpr std::size_t save_header_bytes = 16;

inline constexpr std::string_view decider_save = "msDECIDE";
inline constexpr std::string_view states_save = "msSTATES";

inline void put_save_header(byte_writer& to, std::string_view magic) noexcept {
  to.put(std::as_bytes(std::span(magic)));
  to.put(save_byte_order);
  to.put(save_version);
}

/// Reads a header. The error, with `owner` in front, says what it is instead.
inline error take_save_header(byte_reader& from, std::string_view magic, std::string_view owner) noexcept {
  const auto letters = from.take(magic.size());
  const auto order = from.get<std::uint32_t>(), version = from.get<std::uint32_t>();
  const auto broken = [&](const auto&... parts) {
    return error(errc::bad_input, owner, ": saved state can't be used: ", parts...);
  };
  if (letters.empty() || std::memcmp(letters.data(), magic.data(), magic.size()) != 0)
    return broken("it does not begin with ", magic);
  if (from.failed()) return broken("it is cut short");
  if (order == 0x04030201u) return broken("it was saved on a machine of the other byte order");
  if (order != save_byte_order) return broken("its byte order is none");
  if (version != save_version)
    return broken("its format is version ", version, ", this library reads version ", save_version);
  return {};
}

}  // namespace multistate::detail
