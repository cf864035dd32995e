#pragma once

#include <cstddef>
#include <vector>

#include <multistate/model/decoder.hpp>
#include <multistate/memory/memory.hpp>
#include <support/furthest.hpp>
#include <support/random.hpp>
#include <support/threads.hpp>

namespace support {

struct model_sizes {
  int layers = 2, hidden = 24, heads = 4, kv_heads = 2, head_dim = 6, ffn = 40, vocab = 32;
  bool tied = false;
  multistate::rope_pairing pairing = multistate::rope_pairing::halves;
};

/// Random weights, queries enlarged so that attention is peaked.
inline multistate::model_weights random_model(const model_sizes& s, std::uint64_t seed = 1) {
  generator g(seed);
  const auto random_matrix = [&](int out, int in, double scale = 1.0) {
    std::vector<float> w(multistate::to_size(out) * multistate::to_size(in));
    for (float& x : w) x = static_cast<float>(scale * g.normal() / std::sqrt(static_cast<double>(in)));
    return w;
  };
  const auto norm = [&] {
    std::vector<float> w(multistate::to_size(s.hidden));
    for (float& x : w) x = static_cast<float>(1.0 + 0.1 * g.normal());
    return w;
  };
  multistate::model_weights m;
  m.config.layers = s.layers;
  m.config.hidden = s.hidden;
  m.config.heads = s.heads;
  m.config.kv_heads = s.kv_heads;
  m.config.head_dim = s.head_dim;
  m.config.ffn = s.ffn;
  m.config.vocab = s.vocab;
  m.config.tied = s.tied;
  m.config.rope.dim = s.head_dim / 2 * 2;
  m.config.rope.theta = 100.0;
  m.config.rope.pairing = s.pairing;
  m.embedding = random_matrix(s.vocab, s.hidden, std::sqrt(static_cast<double>(s.hidden)));
  for (int l = 0; l < s.layers; ++l) {
    const int q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
    m.layers.push_back({norm(), random_matrix(q, s.hidden, 2.0), random_matrix(kv, s.hidden),
                        random_matrix(kv, s.hidden), random_matrix(s.hidden, q), norm(), random_matrix(s.ffn, s.hidden),
                        random_matrix(s.ffn, s.hidden), random_matrix(s.hidden, s.ffn)});
  }
  m.final_norm = norm();
  if (!s.tied) m.head = random_matrix(s.vocab, s.hidden);
  return m;
}

inline std::vector<int> random_ids(int count, int vocab, std::uint64_t seed = 1) {
  generator g(seed);
  std::vector<int> ids;
  for (int i = 0; i < count; ++i) ids.push_back(g.between(0, vocab - 1));
  return ids;
}

/// Feeds `tokens` in calls of `chunk`; logits of all.
template <class Decoder>
std::vector<float> feed(Decoder& d, multistate::sequence_memory& memory, std::span<const int> tokens,
                        std::size_t chunk = 1, multistate::attend_mode mode = multistate::attend_mode::together) {
  const auto vocab = static_cast<std::size_t>(d.config().vocab);
  std::vector<float> logits(tokens.size() * vocab);
  for (std::size_t done = 0; done < tokens.size(); done += chunk) {
    multistate::batch_item item;
    item.memory = &memory;
    item.tokens = tokens.subspan(done, std::min(chunk, tokens.size() - done));
    item.mode = mode;
    item.want = multistate::logit_rows::all;
    item.logits = logits.data() + done * vocab;
    const multistate::error e = d.forward({&item, 1});
    if (e) throw multistate::bad_result(e);
  }
  return logits;
}

inline std::vector<multistate::position> kept(const multistate::sequence_memory& m, int layer, int lane) {
  std::vector<multistate::position> p(static_cast<std::size_t>(m.live(layer, lane)));
  m.kept(layer, lane, p);
  return p;
}

}  // namespace support
