#pragma once

#include <cstdint>
#include <string_view>

#include <multistate/types/error.hpp>

namespace multistate {

/// How weights in blocks of whole numbers are multiplied; floats are always multiplied as floats.
enum class product_mode : std::uint8_t {
  exact,  ///< float32 over the numbers that the blocks mean
  fast    ///< whole numbers by activations rounded to whole numbers of 16 bits
};

constexpr std::string_view name_of(product_mode mode) noexcept {
  return mode == product_mode::fast ? std::string_view("fast") : std::string_view("exact");
}

/// The mode of that name; an error says which there are.
inline result<product_mode> parse_product_mode(std::string_view name) noexcept {
  using namespace std::string_view_literals;
  for (const product_mode mode : {product_mode::exact, product_mode::fast})
    if (name_of(mode) == name) return mode;
  return error(errc::bad_string, "products: there are exact and fast; got '"sv, name, "'"sv);
}

}  // namespace multistate
