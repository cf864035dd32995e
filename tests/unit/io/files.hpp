#pragma once

// What the tests of io share: a folder of their own, files made of numbers, and where the golden ones lie.

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <random>
#include <string>
#include <vector>

#include <multistate/io/file.hpp>
#include <multistate/io/loaded_model.hpp>
#include <multistate/io/safetensors.hpp>
#include <multistate/io/write_file.hpp>

namespace io_test {

namespace fs = std::filesystem;

/// A folder that goes when the test ends.
class scratch {
 public:
  scratch() {
    static unsigned count = 0;
    std::random_device seed;
    path_ = fs::temp_directory_path() / ("multistate-io-" + std::to_string(seed()) + "-" + std::to_string(count++));
    fs::create_directories(path_);
  }
  scratch(const scratch&) = delete;
  scratch& operator=(const scratch&) = delete;
  ~scratch() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  fs::path operator/(const std::string& name) const { return path_ / name; }
  const fs::path& path() const { return path_; }
  fs::path write(const std::string& name, std::string_view bytes) const {
    const auto written = multistate::write_file(path_ / name, std::as_bytes(std::span(bytes)));
    EXPECT_TRUE(written) << written.reason().message();
    return path_ / name;
  }

 private:
  fs::path path_;
};

template <class T>
void put(std::string& bytes, const T& value) {
  char raw[sizeof value];
  std::memcpy(raw, &value, sizeof value);
  bytes.append(raw, sizeof value);
}
template <class T>
void put(std::string& bytes, const std::vector<T>& values) {
  for (const T& v : values) put(bytes, v);
}

inline std::string safetensors_bytes(std::string_view header, std::size_t data) {
  std::string bytes;
  put(bytes, static_cast<std::uint64_t>(header.size()));
  bytes += header;
  for (std::size_t i = 0; i < data; ++i) bytes += static_cast<char>(i);
  return bytes;
}

inline fs::path golden(const std::string& name) { return fs::path(MULTISTATE_TEST_DATA) / "golden" / name; }
inline fs::path shared(const std::string& name) { return fs::path(MULTISTATE_SHARED_DATA) / name; }

/// An error of this code whose message begins with the path, is one line, and holds each of the words.
template <class T>
void expect_error(const multistate::result<T>& got, multistate::errc code, const fs::path& path,
                  std::initializer_list<std::string_view> words = {}) {
  ASSERT_FALSE(got);
  const std::string message(got.reason().message());
  EXPECT_EQ(got.code(), code) << message;
  EXPECT_TRUE(message.starts_with(path.string() + ": ")) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  for (std::string_view w : words) EXPECT_NE(message.find(w), std::string::npos) << message << "\n  lacks " << w;
}

/// A small model with random weights, every dimension another number.
inline multistate::model_weights random_model(unsigned seed, bool tied, int vocab = 40) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  const auto values = [&](int count) {
    std::vector<float> v(static_cast<std::size_t>(count));
    for (float& x : v) x = normal(random);
    return v;
  };
  multistate::model_weights w;
  auto& c = w.config;
  c.layers = 3;
  c.hidden = 16;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 4;
  c.ffn = 24;
  c.vocab = vocab;
  c.context = 10;
  c.tied = tied;
  c.bos = 1;
  c.rope.dim = 4;
  w.embedding = values(vocab * 16);
  for (int i = 0; i < 3; ++i)
    w.layers.push_back({values(16), values(256), values(128), values(128), values(256), values(16), values(384),
                        values(384), values(384)});
  w.final_norm = values(16);
  if (!tied) w.head = values(vocab * 16);
  return w;
}

inline const multistate::model_weights& as_floats(const multistate::model_weights& w) { return w; }
inline multistate::model_weights as_floats(const multistate::loaded_model& m) { return floats_of(m); }

/// Calls f(member of a, member of b) for every tensor of two models with equal configs.
template <class A, class B, class F>
void each_tensor(const A& one, const B& other, F f) {
  const multistate::model_weights &a = as_floats(one), &b = as_floats(other);
  ASSERT_EQ(a.layers.size(), b.layers.size());
  f(a.embedding, b.embedding);
  using multistate::layer_weights;
  for (auto member :
       {&layer_weights::attention_norm, &layer_weights::q, &layer_weights::k, &layer_weights::v, &layer_weights::o,
        &layer_weights::ffn_norm, &layer_weights::gate, &layer_weights::up, &layer_weights::down})
    for (std::size_t i = 0; i < a.layers.size(); ++i) f(a.layers[i].*member, b.layers[i].*member);
  f(a.final_norm, b.final_norm);
  f(a.head, b.head);
}
template <class A, class B>
void expect_equal(const A& a, const B& b) {
  EXPECT_EQ(a.config, b.config);
  each_tensor(a, b, [](const auto& x, const auto& y) { EXPECT_EQ(x, y); });
}

/// Loads damaged copies of a file: cut at every length that is asked for, and with random bytes changed. Whatever comes
/// must be a value or an error in one line; sanitizers and the time limit watch the rest.
template <class Load>
void damage(const scratch& folder, const std::string& name, const std::string& whole, int flips, Load load) {
  const fs::path path = folder / name;
  int errors = 0;
  const auto attempt = [&](const std::string& bytes) {
    std::remove(path.string().c_str());  // some file systems flush a file that is emptied and written again
    std::FILE* f = std::fopen(path.string().c_str(), "wb");  // without write_file's fsync: there are thousands
    ASSERT_NE(f, nullptr);
    ASSERT_EQ(std::fwrite(bytes.data(), 1, bytes.size(), f), bytes.size());
    std::fclose(f);
    const auto got = load(path);
    if (got) return;
    ++errors;
    ASSERT_FALSE(got.reason().message().empty());
    ASSERT_EQ(got.reason().message().find('\n'), std::string_view::npos);
  };
  const std::size_t stride = std::max<std::size_t>(1, whole.size() / 1000);
  int cuts = 0;
  for (std::size_t n = 0; n < whole.size(); n += n < 400 ? 1 : stride, ++cuts) attempt(whole.substr(0, n));
  EXPECT_EQ(errors, cuts) << "every cut file must be an error";
  std::mt19937 random(7);
  for (int i = 0; i < flips; ++i) {
    std::string bytes = whole;
    const int changes = 1 + static_cast<int>(random() % 4);
    for (int c = 0; c < changes; ++c) {
      // Mostly in the header, where a byte means most.
      const std::size_t reach = random() % 4 == 0 ? bytes.size() : std::min<std::size_t>(bytes.size(), 300);
      static constexpr char telling[] = {0, 1, -1, -128, 127, '{', '}', '[', '"', ',', '9', '-'};
      bytes[random() % reach] = random() % 2 == 0 ? static_cast<char>(random()) : telling[random() % sizeof telling];
    }
    attempt(bytes);
  }
}

}  // namespace io_test
