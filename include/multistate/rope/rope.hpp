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
    if (!detail::positive(config.attention_factor))
      return detail::bad_rope("attention_factor", config.attention_factor, "positive and finite");
    if (!(config.session >= 0.0) || !is_finite(config.session))
      return detail::bad_rope("session", config.session, "0 or more, and finite");
    const bool extends = config.scaling == rope_scaling::dynamic || config.scaling == rope_scaling::yarn;
    if ((extends || !config.long_divisors.empty()) && !detail::positive(config.original_context))
      return detail::bad_rope("original_context", config.original_context, "positive and finite");
    if (extends && (config.dim < 4 || config.theta <= 1.0))
      return error(errc::bad_shape, "rope: this scaling needs dim of at least 4 and theta above 1"sv);
    if (config.scaling == rope_scaling::yarn &&
        !(config.beta_slow > 0.0 && config.beta_fast >= config.beta_slow && is_finite(config.beta_fast)))
      return detail::bad_rope("beta_fast", config.beta_fast, "finite, and no less than beta_slow, which is above 0");
    if (config.scaling == rope_scaling::divided) {
      const auto pairs = static_cast<std::size_t>(config.dim / 2);
      if (config.short_divisors.size() != pairs ||
          (!config.long_divisors.empty() && config.long_divisors.size() != pairs))
        return error(errc::bad_shape, "rope: needs "sv, pairs, " divisors; got "sv, config.short_divisors.size(),
                     " and "sv, config.long_divisors.size());
      for (const std::vector<float>* divisors : {&config.short_divisors, &config.long_divisors})
        for (const float x : *divisors)
          if (!detail::positive(static_cast<double>(x)))
            return detail::bad_rope("a divisor", static_cast<double>(x), "positive and finite");
    }
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
      cos_sin[i] = static_cast<float>(config_.attention_factor * std::cos(angle));
      cos_sin[pairs + i] = static_cast<float>(config_.attention_factor * std::sin(angle));
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

  static constexpr double two_pi = 6.283185307179586476925;

  /// Which pair goes round so many times within the original context (Peng et al. 2023, YaRN).
  static double pair_of_cycles(const rope_config& c, double cycles) noexcept {
    return c.dim * std::log(c.original_context / (two_pi * cycles)) / (2.0 * std::log(c.theta));
  }
  /// How far pair i is stretched, from 0 to 1.
  static double yarn_ramp(const rope_config& c, double pair) noexcept {
    double low = pair_of_cycles(c, c.beta_fast), high = pair_of_cycles(c, c.beta_slow);
    if (c.truncate) {
      low = std::floor(low);
      high = std::ceil(high);
    }
    low = low > 0.0 ? low : 0.0;
    high = high < c.dim - 1.0 ? high : c.dim - 1.0;
    if (!(high < low) && !(high > low)) high += 0.001;
    const double ramp = (pair - low) / (high - low);
    return ramp < 0.0 ? 0.0 : ramp > 1.0 ? 1.0 : ramp;
  }

  /// Su et al. 2021; the scalings as in transformers, modeling_rope_utils.py.
  static double frequency(const rope_config& config, std::size_t pair) noexcept {
    const double exponent = -2.0 * static_cast<double>(pair) / static_cast<double>(config.dim);
    const double plain = std::pow(config.theta, exponent);
    if (config.scaling == rope_scaling::still) return 0.0;
    if (config.scaling == rope_scaling::none) return plain;
    if (config.scaling == rope_scaling::linear) return plain / config.factor;
    if (config.scaling == rope_scaling::dynamic) {
      const double m = config.original_context, most = config.session > m ? config.session : m;
      const double stretched = config.factor * most / m - (config.factor - 1.0);
      return std::pow(config.theta * std::pow(stretched, config.dim / (config.dim - 2.0)), exponent);
    }
    if (config.scaling == rope_scaling::yarn) {
      const double ramp = yarn_ramp(config, static_cast<double>(pair));
      return plain / config.factor * ramp + plain * (1.0 - ramp);
    }
    if (config.scaling == rope_scaling::divided) {
      const bool beyond = !config.long_divisors.empty() && config.session > config.original_context;
      return plain / static_cast<double>((beyond ? config.long_divisors : config.short_divisors)[pair]);
    }
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
