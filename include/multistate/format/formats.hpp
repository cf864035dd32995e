#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <multistate/format/block.hpp>
#include <multistate/format/element.hpp>
#include <multistate/format/q4.hpp>
#include <multistate/format/q4_k.hpp>
#include <multistate/format/q5.hpp>
#include <multistate/format/q6_k.hpp>
#include <multistate/format/q8_0.hpp>
#include <multistate/format/table4.hpp>
#include <multistate/types/error.hpp>

namespace multistate {

/// How the numbers of a matrix or of states lie in memory: the format types as values. The first four store states.
enum class weight_format : std::uint8_t {
  f32,
  f16,
  bf16,
  i8,
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  iq4_xs,
  mxfp4
};

namespace detail {

/// f(format) for the index-th of the types.
template <class First, class... Rest, class F>
constexpr decltype(auto) with_nth_format(std::size_t index, const F& f) {
  if constexpr (sizeof...(Rest) > 0)
    if (index > 0) return with_nth_format<Rest...>(index - 1, f);
  return f(First());
}

template <std::size_t Count>
constexpr std::array<weight_format, Count> first_formats() noexcept {
  std::array<weight_format, Count> all{};
  for (std::size_t i = 0; i < Count; ++i) all[i] = static_cast<weight_format>(i);
  return all;
}

}  // namespace detail

/// f(format) for the format type that a value names, of those that store states. Precondition: it is one of them.
template <class F>
constexpr decltype(auto) with_state_format(weight_format format, const F& f) {
  return detail::with_nth_format<f32, f16, bf16, i8>(static_cast<std::size_t>(format), f);
}

/// f(format) for the format type that a value names.
template <class F>
constexpr decltype(auto) with_format(weight_format format, const F& f) {
  return detail::with_nth_format<f32, f16, bf16, i8, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k, iq4_nl, iq4_xs,
                                 mxfp4>(static_cast<std::size_t>(format), f);
}

/// All there are.
inline constexpr std::array weight_formats = detail::first_formats<15>();
/// Those that states and other single vectors can be stored in.
inline constexpr std::array state_formats = detail::first_formats<4>();

constexpr std::string_view name_of(weight_format format) noexcept {
  return with_format(format, []<class F>(F) { return F::name; });
}

/// The state format of that name; an error says which there are.
inline result<weight_format> parse_state_format(std::string_view name) noexcept {
  using namespace std::string_view_literals;
  for (const weight_format format : state_formats)
    if (name_of(format) == name) return format;
  return error(errc::bad_string, "format: there are f32, f16, bf16 and i8; got '"sv, name, "'"sv);
}

/// Elements that share a block; 1 where each stands alone, and for i8, whose scale is the whole vector's.
constexpr std::size_t block_elements(weight_format format) noexcept {
  return with_format(format, []<class F>(F) -> std::size_t {
    if constexpr (block_format<F>)
      return F::elements;
    else
      return 1;
  });
}

/// Bytes of a vector of n elements. Precondition: n is a multiple of block_elements(format).
constexpr std::size_t row_bytes(weight_format format, std::size_t n) noexcept {
  return with_format(format, [n]<class F>(F) -> std::size_t {
    if constexpr (block_format<F>)
      return n / F::elements * F::bytes;
    else
      return row_bytes<F>(static_cast<int>(n));
  });
}

/// Elements [begin, begin + n) of a vector of blocks as floats. Precondition: both are multiples of F::elements.
template <block_format F>
void load_part(float* to, const std::byte* from, std::size_t begin, std::size_t n) noexcept {
  const std::byte* block = from + begin / F::elements * F::bytes;
  for (std::size_t i = 0; i < n; i += F::elements, block += F::bytes) F::load(to + i, block);
}

/// A whole vector of n elements as floats. Precondition: n is a multiple of block_elements(format).
inline void load_row(weight_format format, float* to, const std::byte* from, std::size_t n) noexcept {
  with_format(format, [=]<class F>(F) {
    if constexpr (block_format<F>)
      load_part<F>(to, from, 0, n);
    else
      load_row<F>(to, from, static_cast<int>(n));
  });
}

}  // namespace multistate
