#include "files.hpp"

#include <cmath>

#include <multistate/io/llama2c.hpp>

namespace {

using namespace multistate;
using namespace io_test;

/// The files as llama2.c's export writes them; version 2 with this group.
std::string checkpoint_bytes(const model_weights& w, int version, int group = 8) {
  const auto& c = w.config;
  std::string bytes;
  if (version != 0) {
    put(bytes, std::uint32_t{0x616b3432});
    put(bytes, version);
  }
  const int sign = version == 0 && !c.tied ? -1 : 1;
  put(bytes, std::vector<int>{c.hidden, c.ffn, c.layers, c.heads, c.kv_heads, sign * c.vocab, c.context});
  if (version != 0) {
    put(bytes, static_cast<char>(c.tied));
    if (version == 2) put(bytes, group);
    bytes.resize(256);
  }
  const auto matrix = [&](const std::vector<float>& values) {
    if (version != 2) return put(bytes, values);
    const auto size = static_cast<std::size_t>(group);
    std::vector<float> scales;
    for (std::size_t g = 0; g < values.size(); g += size) {
      float most = 0;
      for (std::size_t i = g; i < g + size; ++i) most = std::max(most, std::abs(values[i]));
      scales.push_back(most / 127);
      for (std::size_t i = g; i < g + size; ++i)
        bytes += static_cast<char>(static_cast<int>(std::lround(values[i] / scales.back())));
    }
    put(bytes, scales);
  };
  const auto norms = [&](auto member) {
    for (const auto& l : w.layers) put(bytes, l.*member);
  };
  const auto matrices = [&](auto member) {
    for (const auto& l : w.layers) matrix(l.*member);
  };
  if (version == 0) matrix(w.embedding);
  norms(&layer_weights::attention_norm);
  if (version != 0) {
    norms(&layer_weights::ffn_norm);
    put(bytes, w.final_norm);
    matrix(w.embedding);
  }
  for (auto m : {&layer_weights::q, &layer_weights::k, &layer_weights::v, &layer_weights::o}) matrices(m);
  if (version == 0) norms(&layer_weights::ffn_norm);
  for (auto m : {&layer_weights::gate, &layer_weights::down, &layer_weights::up}) matrices(m);
  if (version == 0) {
    put(bytes, w.final_norm);
    put(bytes, std::vector<float>(static_cast<std::size_t>(c.context * c.head_dim), 99.0f));  // tables of angles
  }
  if (!c.tied) matrix(w.head);
  return bytes;
}

TEST(io_llama2c, loads_every_version) {
  const scratch folder;
  for (bool tied : {false, true})
    for (int version : {0, 1, 2}) {
      SCOPED_TRACE(version);
      auto w = random_model(5, tied);
      w.config.rope.pairing = rope_pairing::adjacent;
      const auto path = folder.write("m.bin", checkpoint_bytes(w, version));
      const auto got = load_llama2c(path);
      ASSERT_TRUE(got) << got.reason().message();
      EXPECT_EQ(got->hash, hash_bytes(file_bytes::open(path)->bytes()));
      if (version != 2) {
        expect_equal(*got, w);
        continue;
      }
      EXPECT_EQ(got->config, w.config);
      each_tensor(*got, w, [](const auto& a, const auto& b) {
        ASSERT_EQ(a.size(), b.size());
        if (a.size() == 16) {  // norms stay exact
          EXPECT_EQ(a, b);
          return;
        }
        for (std::size_t i = 0; i < a.size(); ++i) {
          float most = 0;
          for (std::size_t k = i / 8 * 8; k < i / 8 * 8 + 8; ++k) most = std::max(most, std::abs(b[k]));
          ASSERT_NEAR(a[i], b[i], most / 127 * 0.5001f);
        }
      });
    }
}

TEST(io_llama2c, vocabulary_decides_on_bos) {
  const scratch folder;
  for (const auto& [vocab, bos] : {std::pair{256, -1}, std::pair{257, 256}, std::pair{258, 1}, std::pair{1, -1}}) {
    const auto got = load_llama2c(folder.write("m.bin", checkpoint_bytes(random_model(5, true, vocab), 0)));
    ASSERT_TRUE(got) << got.reason().message();
    EXPECT_EQ(got->config.bos, bos);
  }
}

TEST(io_llama2c, stories260K) {
  const auto path = shared("models/stories260K.bin");
  if (!fs::exists(path)) GTEST_SKIP() << path << " is not there";
  const auto got = load_llama2c(path);
  ASSERT_TRUE(got) << got.reason().message();
  model_config want;
  want.layers = 5;
  want.hidden = 64;
  want.heads = 8;
  want.kv_heads = 4;
  want.head_dim = 8;
  want.ffn = 172;
  want.vocab = 512;
  want.context = 512;
  want.tied = true;
  want.bos = 1;
  want.rope = {.dim = 8, .pairing = rope_pairing::adjacent};
  EXPECT_EQ(got->config, want);
  // Read from the wrong place a norm would hold entries of a matrix, which have either sign.
  const model_weights floats = floats_of(*got);
  for (const auto& l : floats.layers)
    for (const auto& norm : {l.attention_norm, l.ffn_norm, floats.final_norm})
      for (float x : norm) EXPECT_TRUE(x > 0 && x < 100) << x;
}

TEST(io_llama2c, refuses_sizes_that_are_no_model) {
  const scratch folder;
  const auto w = random_model(5, false);
  for (int version : {0, 1, 2}) {
    const std::string good = checkpoint_bytes(w, version);
    const std::size_t at = version == 0 ? 0 : 8;
    const auto refuse = [&](std::size_t field, int value, std::string_view word) {
      std::string bytes = good;
      std::memcpy(bytes.data() + at + 4 * field, &value, 4);
      SCOPED_TRACE("version " + std::to_string(version) + " field " + std::to_string(field) + " " +
                   std::to_string(value));
      const auto path = folder.write("m.bin", bytes);
      expect_error(load_llama2c(path), errc::bad_file, path, {word});
    };
    constexpr int lowest = std::numeric_limits<int>::min(), highest = std::numeric_limits<int>::max();
    for (std::size_t field = 0; field < 7; ++field) {
      refuse(field, 0, "fit no model");
      refuse(field, lowest, "fit no model");
      if (field != 5 || version != 0) refuse(field, -3, "fit no model");
      if (version == 0 || field != 6) refuse(field, highest, "");  // the context only sizes version 0's tables
    }
    refuse(0, 20, "fit no model");  // 20 / 4 heads is odd
    refuse(4, 3, "fit no model");   // 3 KV heads do not divide 4
    refuse(0, 1 << 30, "bytes, a llama2.c checkpoint");
    refuse(2, highest, "has " + std::to_string(good.size()) + " bytes");
    refuse(2, 2, "has " + std::to_string(good.size()) + " bytes");
    refuse(5, 41, "");
  }
}

TEST(io_llama2c, refuses_other_headers) {
  const scratch folder;
  const auto w = random_model(5, false);
  auto path = folder.write("m.bin", checkpoint_bytes(w, 3));
  expect_error(load_llama2c(path), errc::not_supported, path, {"version 3"});
  path = folder.write("m.bin", checkpoint_bytes(w, -1));
  expect_error(load_llama2c(path), errc::not_supported, path, {"version -1"});
  path = folder.write("m.bin", checkpoint_bytes(w, 1).substr(0, 255));
  expect_error(load_llama2c(path), errc::bad_file, path, {"within its header"});
  path = folder.write("m.bin", checkpoint_bytes(w, 0) + "x");
  expect_error(load_llama2c(path), errc::bad_file, path, {"bytes"});
  for (const auto& [group, word] : {std::pair{0, "fit no model"}, std::pair{-8, "fit no model"},
                                    std::pair{7, "groups of 7"}, std::pair{1 << 30, "groups of"}}) {
    std::string bytes = checkpoint_bytes(w, 2);
    std::memcpy(bytes.data() + 37, &group, 4);
    path = folder.write("m.bin", bytes);
    expect_error(load_llama2c(path), errc::bad_file, path, {word});
  }
}

TEST(io_llama2c, says_when_the_head_is_the_other_kind) {
  const scratch folder;
  for (bool tied : {false, true})
    for (int version : {0, 1, 2}) {
      std::string bytes = checkpoint_bytes(random_model(5, tied), version);
      const int other = tied ? -40 : 40;  // version 0 says it by the vocabulary's sign, the others by a byte
      if (version == 0)
        std::memcpy(bytes.data() + 20, &other, 4);
      else
        bytes[36] = static_cast<char>(!tied);
      const auto path = folder.write("m.bin", bytes);
      expect_error(load_llama2c(path), errc::bad_file, path,
                   {tied ? "its own head" : "a shared head", "the head is the other kind"});
    }
}

TEST(io_llama2c, survives_damage) {
  const scratch folder;
  for (int version : {0, 1, 2})
    damage(folder, "m.bin", checkpoint_bytes(random_model(5, false), version), 1500,
           [](const fs::path& path) { return load_llama2c(path); });
}

}  // namespace
