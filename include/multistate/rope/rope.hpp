#pragma once

#include <charconv>
#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>

#include <multistate/rope/config.hpp>
#include <multistate/util/assert.hpp>
#include <multistate/util/buffer.hpp>
#include <multistate/types/error.hpp>
#include <multistate/util/finite.hpp>

namespace multistate {

namespace detail {

inline error bad_rope(std::string_view setting, double value, std::string_view right) noexcept {
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  return error(errc::bad_input, std::string_view("rope: "), setting, std::string_view(" is "),
               std::string_view(digits, static_cast<std::size_t>(end - digits)), std::string_view(", must be "), right);
}

inline bool positive(double value) noexcept { return value > 0.0 && is_finite(value); }

}  // namespace detail

/// Checked settings of the rotary embedding and its frequencies. Angles are computed in double: a float loses them
/// from positions of some 1e4 on.
class rope {
 public:
  static result<rope> make(const rope_config& config) noexcept {
    using namespace std::string_view_literals;
    if (config.dim < 2 || config.dim % 2 != 0)
      return error(errc::bad_shape, "rope: dim is "sv, config.dim, ", must be even and at least 2"sv);
    if (!detail::positive(config.theta)) return detail::bad_rope("theta", config.theta, "positive and finite");
    if (config.scaling != rope_scaling::none && !detail::positive(config.factor))
      return detail::bad_rope("factor", config.factor, "positive and finite");
    if (config.scaling == rope_scaling::llama3) {
      if (!detail::positive(config.low_freq_factor))
        return detail::bad_rope("low_freq_factor", config.low_freq_factor, "positive and finite");
      if (!(config.high_freq_factor > config.low_freq_factor) || !is_finite(config.high_freq_factor))
        return detail::bad_rope("high_freq_factor", config.high_freq_factor, "finite and above low_freq_factor");
      if (!detail::positive(config.original_context))
        return detail::bad_rope("original_context", config.original_context, "positive and finite");
    }
    rope made;
    made.config_ = config;
    if (!made.inv_freq_.allocate(static_cast<std::size_t>(config.dim / 2)))
      return error(errc::out_of_memory, "rope: no memory for "sv, config.dim / 2, " frequencies"sv);
    for (std::size_t i = 0; i < made.inv_freq_.size(); ++i) made.inv_freq_[i] = frequency(config, i);
    return made;
  }

  const rope_config& config() const noexcept { return config_; }

  /// Radians per position of each pair, [dim / 2].
  std::span<const double> inv_freq() const noexcept { return inv_freq_.span(0, inv_freq_.size()); }

  /// Floats that angles() writes.
  std::size_t angle_floats() const noexcept { return 2 * inv_freq_.size(); }

  /// The angles at a position, which may be fractional: cos_sin [2][dim / 2], the cosines first.
  void angles(double at, float* cos_sin) const noexcept {
    const std::size_t pairs = inv_freq_.size();
    for (std::size_t i = 0; i < pairs; ++i) {
      const double angle = at * inv_freq_[i];
      cos_sin[i] = static_cast<float>(std::cos(angle));
      cos_sin[pairs + i] = static_cast<float>(std::sin(angle));
    }
  }

  /// Turns one head: x [d] to y [d], d >= dim; elements beyond dim are copied. x and y may be the same memory, but
  /// rotate from the un-rotated vector each time: rotations of rotations pile up their errors.
  void rotate(std::span<const float> x, const float* cos_sin, std::span<float> y) const noexcept {
    const auto dim = static_cast<std::size_t>(config_.dim);
    const std::size_t pairs = dim / 2;
    MULTISTATE_ASSERT(x.size() >= dim && y.size() == x.size());
    const float* c = cos_sin;
    const float* s = cos_sin + pairs;
    if (config_.pairing == rope_pairing::halves) {
      for (std::size_t i = 0; i < pairs; ++i) {
        const float a = x[i];
        const float b = x[pairs + i];
        y[i] = a * c[i] - b * s[i];
        y[pairs + i] = b * c[i] + a * s[i];
      }
    } else {
      for (std::size_t i = 0; i < pairs; ++i) {
        const float a = x[2 * i];
        const float b = x[2 * i + 1];
        y[2 * i] = a * c[i] - b * s[i];
        y[2 * i + 1] = b * c[i] + a * s[i];
      }
    }
    for (std::size_t i = dim; i < x.size(); ++i) y[i] = x[i];
  }

 private:
  rope() = default;

  /// Su et al. 2021; the scalings as in transformers, modeling_rope_utils.py.
  static double frequency(const rope_config& config, std::size_t pair) noexcept {
    constexpr double two_pi = 6.283185307179586476925;
    const double plain = std::pow(config.theta, -2.0 * static_cast<double>(pair) / static_cast<double>(config.dim));
    if (config.scaling == rope_scaling::none) return plain;
    if (config.scaling == rope_scaling::linear) return plain / config.factor;
    const double wavelength = two_pi / plain;
    if (wavelength < config.original_context / config.high_freq_factor) return plain;
    if (wavelength > config.original_context / config.low_freq_factor) return plain / config.factor;
    const double smooth = (config.original_context / wavelength - config.low_freq_factor) /
                          (config.high_freq_factor - config.low_freq_factor);
    return (1.0 - smooth) * plain / config.factor + smooth * plain;
  }

  rope_config config_;
  buffer<double> inv_freq_;  ///< [dim / 2]
};

}  // namespace multistate
