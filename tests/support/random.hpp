#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <numbers>
#include <string>
#include <vector>

namespace support {

/// splitmix64: the same numbers with every compiler and standard library.
class generator {
 public:
  explicit generator(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    std::uint64_t x = state_ += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }
  /// Both ends included.
  int between(int low, int high) { return low + static_cast<int>(next() % static_cast<std::uint64_t>(high - low + 1)); }
  bool chance(int percent) { return between(1, 100) <= percent; }
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  double normal() {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
  }
  template <class T>
  const T& one_of(const std::vector<T>& choices) {
    return choices[static_cast<std::size_t>(between(0, static_cast<int>(choices.size()) - 1))];
  }
  template <class T>
  void shuffle(std::vector<T>& v) {
    for (std::size_t i = v.size(); i > 1; --i) std::swap(v[i - 1], v[next() % i]);
  }

 private:
  std::uint64_t state_;
};

/// MULTISTATE_TEST_SEED, 1 unless set: where all random tests start.
inline std::uint64_t base_seed() {
  const char* text = std::getenv("MULTISTATE_TEST_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

/// `base` rounds times MULTISTATE_TEST_ROUNDS (1 unless set; fractions too), at least one.
inline int rounds(int base) {
  const char* text = std::getenv("MULTISTATE_TEST_ROUNDS");
  const double scaled = base * (text == nullptr ? 1.0 : std::strtod(text, nullptr));
  return scaled < 1.0 ? 1 : static_cast<int>(scaled);
}

/// The generator of one round; what to print so that it can be repeated.
struct round_seed {
  std::uint64_t seed;
  int round;

  generator make(std::uint64_t salt) const {
    return generator(seed * 0x9e3779b97f4a7c15u ^ (salt << 32) ^ static_cast<std::uint64_t>(round));
  }
  std::string text() const {
    return "MULTISTATE_TEST_SEED=" + std::to_string(seed) + ", round " + std::to_string(round);
  }
};

}  // namespace support
