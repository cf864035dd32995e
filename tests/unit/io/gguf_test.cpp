// The container: what a sound file says, and that every cut and every changed number is refused or harmless.

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <multistate/io/gguf.hpp>
#include <support/gguf_writer.hpp>
#include <unit/io/files.hpp>

namespace {

using namespace multistate;
using io_test::scratch;

const std::filesystem::path models = std::filesystem::path(MULTISTATE_SHARED_DATA) / "golden/models";

support::gguf_writer small() {
  support::gguf_writer w;
  w.text("general.architecture", "llama");
  w.whole("llama.block_count", 2);
  w.number("llama.eps", 0.5f);
  w.key("flag", 7, std::uint8_t{1});
  w.list("names", 8, std::vector<std::string>{"a", "", "bcd"});
  w.list("scores", 6, std::vector<float>{1.0f, -2.5f});
  w.floats("m", {2, 3}, {1, 2, 3, 4, 5, 6});
  w.tensor("q", {1, 32}, 8, std::string("\0\x3c", 2) + std::string(32, '\2'));
  return w;
}

std::string refusal(const scratch& folder, const std::string& bytes) {
  const auto g = gguf::open(folder.write("x.gguf", bytes));
  return g ? "" : std::string(g.reason().message());
}

TEST(gguf, says_what_is_in_it) {
  const scratch folder;
  for (const std::uint32_t version : {2u, 3u}) {
    auto w = small();
    w.version = version;
    const auto g = gguf::open(folder.write("x.gguf", w.bytes())).value();
    EXPECT_EQ(*g.text("general.architecture").value(), "llama");
    EXPECT_EQ(*g.whole("llama.block_count").value(), 2u);
    EXPECT_EQ(*g.number("llama.eps").value(), 0.5);
    EXPECT_TRUE(*g.flag("flag").value());
    EXPECT_EQ(*g.texts("names").value(), (std::vector<std::string_view>{"a", "", "bcd"}));
    EXPECT_EQ(*g.numbers("scores").value(), (std::vector<double>{1.0, -2.5}));
    EXPECT_FALSE(g.text("nothing").value().has_value());
    for (const char* key : {"names", "scores", "general.architecture", "flag"}) EXPECT_FALSE(g.whole(key)) << key;
    EXPECT_FALSE(g.whole("llama.eps"));
    EXPECT_FALSE(g.text("scores"));
    EXPECT_FALSE(g.texts("scores"));
    EXPECT_FALSE(g.flag("llama.eps"));
    EXPECT_EQ(g.find_tensor("m")->shape, (std::vector<std::size_t>{2, 3}));
    EXPECT_EQ(gguf::floats(*g.find_tensor("m")), (std::vector<float>{1, 2, 3, 4, 5, 6}));
    EXPECT_EQ(gguf::floats(*g.find_tensor("q")), std::vector<float>(32, 2.0f));
  }
}

TEST(gguf, every_cut_is_refused) {
  const scratch folder;
  auto w = small();
  std::string bytes = w.bytes();
  bytes.resize(bytes.size() - 30);  // the padding behind the last tensor
  EXPECT_EQ(refusal(folder, bytes), "");
  for (std::size_t n = 0; n < bytes.size(); ++n) EXPECT_NE(refusal(folder, bytes.substr(0, n)), "") << n;
}

TEST(gguf, doubled_names_are_refused) {
  const scratch folder;
  auto w = small();
  w.whole("llama.block_count", 2);
  EXPECT_NE(refusal(folder, w.bytes()).find("llama.block_count twice"), std::string::npos);
  w = small();
  w.floats("m", {1}, {1});
  EXPECT_NE(refusal(folder, w.bytes()).find("tensor m twice"), std::string::npos);
}

TEST(gguf, other_types_are_refused_by_name) {
  const scratch folder;
  support::gguf_writer w;
  w.tensor("x", {1, 256}, 10, std::string(84, '\0'));
  EXPECT_NE(refusal(folder, w.bytes()).find("Q2_K"), std::string::npos);
}

TEST(gguf, parts_make_one_model) {
  const scratch folder;
  const auto part = [&](std::uint16_t number, std::uint16_t count, const char* tensor) {
    support::gguf_writer w;
    w.key("split.no", 2, number);
    w.key("split.count", 2, count);
    w.key("split.tensors.count", 5, std::int32_t{2});
    w.floats(tensor, {1}, {static_cast<float>(number)});
    return w.bytes();
  };
  const auto first = folder.write("m-00001-of-00002.gguf", part(0, 2, "a"));
  EXPECT_NE(std::string(gguf::open(first).reason().message()).find("m-00002-of-00002.gguf"), std::string::npos);
  const auto second = folder.write("m-00002-of-00002.gguf", part(1, 2, "b"));
  const auto g = gguf::open(first).value();
  EXPECT_EQ(gguf::floats(*g.find_tensor("b")), std::vector<float>{1.0f});
  EXPECT_NE(std::string(gguf::open(second).reason().message()).find("name the first one"), std::string::npos);
  for (const auto& wrong : {part(1, 3, "b"), part(0, 2, "b"), part(1, 2, "a"), support::gguf_writer().bytes()}) {
    folder.write("m-00002-of-00002.gguf", wrong);
    EXPECT_FALSE(gguf::open(first));
  }
  EXPECT_FALSE(gguf::open(folder.write("other.gguf", part(0, 2, "a"))));
}

TEST(gguf, broken_files_are_refused) {
  if (!std::filesystem::exists(models)) GTEST_SKIP() << models << " is not there";
  for (const auto& file : std::filesystem::directory_iterator(models / "broken_gguf")) {
    if (file.path().extension() != ".gguf") continue;
    const std::string name = file.path().stem().string();
    // Sound containers, whose model is wrong.
    const bool sound = name == "valid" || name == "no_head_count" || name == "head_count_0" || name == "block_count_3";
    const auto g = gguf::open(file.path());
    EXPECT_EQ(static_cast<bool>(g), sound) << name;
    if (!g) {
      const std::string message(g.reason().message());
      EXPECT_EQ(message.find('\n'), std::string::npos);
      EXPECT_NE(message.find(name), std::string::npos);
    }
  }
}

TEST(gguf, blocks_mean_what_ggml_means) {
  if (!std::filesystem::exists(models)) GTEST_SKIP() << models << " is not there";
  const auto g = gguf::open(models / "blocks.gguf").value();
  int compared = 0;
  for (const gguf_block& block : gguf_blocks) {
    const auto file = models / "blocks" / (std::string(block.name) + ".safetensors");
    if (!std::filesystem::exists(file)) continue;
    const auto expected = safetensors::open(file).value();
    for (const std::string kind : {"", "_random", "_special"}) {
      const gguf_tensor* t = g.find_tensor(std::string(block.name) + kind);
      const auto want = expected.floats("value" + kind);
      ASSERT_EQ(t != nullptr, static_cast<bool>(want)) << block.name << kind;
      if (t == nullptr) continue;
      const auto got = gguf::floats(*t);
      ASSERT_EQ(got.size(), want->size());
      float largest = 0;
      for (const float x : *want)
        if (std::isfinite(x)) largest = std::max(largest, std::abs(x));
      // A fused multiply-add may move the last bit where a minimum is added.
      const bool fused = block.name == "Q4_1" || block.name == "Q5_1" || block.name == "Q4_K" || block.name == "Q5_K";
      for (std::size_t i = 0; i < got.size(); ++i) {
        const bool same = std::bit_cast<std::uint32_t>(got[i]) == std::bit_cast<std::uint32_t>((*want)[i]);
        EXPECT_TRUE(same || (fused && std::abs(got[i] - (*want)[i]) <= 1e-6f * largest)) << block.name << kind << i;
      }
      ++compared;
    }
  }
  EXPECT_EQ(compared, 26);
}

}  // namespace
