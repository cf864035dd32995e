#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <support/random.hpp>

namespace support {

enum class lanes_by : std::uint8_t { head, layer, model };
enum class format : std::uint8_t { f32, f16, bf16 };

/// A policy by its settings, for the library and for the slow reference alike.
struct policy_spec {
  std::string name;  // full, window, h2o, tova, knorm, random, or busy (the tests' own)
  lanes_by scope = lanes_by::layer;
  int budget = 1;
  int first = 0;    // window: sinks, tova: pinned
  int newest = 0;   // tova
  int recent = -1;  // h2o
  bool normalised = false;
  std::uint64_t seed = 0;

  std::string text() const {
    static const char* const scopes[] = {"head", "layer", "model"};
    return name + ":" + std::to_string(budget) + ",scope=" + scopes[static_cast<int>(scope)] +
           ",first=" + std::to_string(first) + ",newest=" + std::to_string(newest) +
           ",recent=" + std::to_string(recent) + (normalised ? ",normalised" : "");
  }
};

struct dimensions {
  int heads = 1, kv_heads = 1, dk = 1, dv = 1;
  int group() const { return heads / kv_heads; }
};

/// Queries, keys and values of a sequence in every layer, all already rotated.
struct tokens {
  dimensions dims;
  int layers = 1;
  int count = 0;
  std::vector<float> q, k, v;  // [layers][count][heads or kv_heads][dk or dv]

  static std::size_t u(int n) { return static_cast<std::size_t>(n); }
  std::size_t row(int layer, int t) const { return u(layer) * u(count) + u(t % count); }
  const float* query(int layer, int t) const { return q.data() + row(layer, t) * u(dims.heads) * u(dims.dk); }
  const float* key(int layer, int t) const { return k.data() + row(layer, t) * u(dims.kv_heads) * u(dims.dk); }
  const float* value(int layer, int t) const { return v.data() + row(layer, t) * u(dims.kv_heads) * u(dims.dv); }
};

/// `sharpness`: how peaked attention is; about the standard deviation of the logits.
inline tokens random_tokens(generator& g, const dimensions& dims, int layers, int count, double sharpness = 2.0) {
  tokens x{.dims = dims, .layers = layers, .count = count, .q = {}, .k = {}, .v = {}};
  const std::size_t rows = tokens::u(layers) * tokens::u(count);
  const auto fill = [&](std::vector<float>& to, int heads, int width, double scale) {
    to.resize(rows * tokens::u(heads) * tokens::u(width));
    for (float& f : to) f = static_cast<float>(scale * g.normal());
  };
  fill(x.q, dims.heads, dims.dk, sharpness);
  fill(x.k, dims.kv_heads, dims.dk, 1.0);
  fill(x.v, dims.kv_heads, dims.dv, 1.0);
  return x;
}

/// Any shape: MHA, GQA and MQA, dk and dv apart.
inline dimensions random_dimensions(generator& g) {
  const int kv = g.one_of(std::vector<int>{1, 1, 2, 3, 4});
  const int group = g.one_of(std::vector<int>{1, 1, 2, 3});
  return {.heads = kv * group, .kv_heads = kv, .dk = g.between(1, 9), .dv = g.between(1, 9)};
}

/// Any policy the tests know, with a budget of `budget`.
inline policy_spec random_policy(generator& g, int budget, const std::vector<std::string>& names) {
  policy_spec p;
  p.name = g.one_of(names);
  p.scope = g.one_of(std::vector<lanes_by>{lanes_by::head, lanes_by::layer, lanes_by::model});
  p.budget = budget;
  if (p.name == "window") p.first = g.between(0, budget);
  if (p.name == "tova" && g.chance(40)) {
    p.first = g.between(0, budget);
    p.newest = g.between(0, budget - p.first);
  }
  if (p.name == "h2o") {
    if (g.chance(50)) p.recent = g.between(0, budget);
    p.normalised = g.chance(40);
  }
  if (p.name == "random") p.seed = g.next();
  return p;
}

inline const std::vector<std::string>& all_policies() {
  static const std::vector<std::string> names{"full", "window", "h2o", "tova", "knorm", "random", "busy"};
  return names;
}
inline const std::vector<std::string>& bounded_policies() {
  static const std::vector<std::string> names{"window", "h2o", "tova", "knorm", "random", "busy"};
  return names;
}

}  // namespace support
