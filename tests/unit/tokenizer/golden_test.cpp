#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include <multistate/io/any_tokenizer.hpp>
#include <multistate/io/safetensors.hpp>
#include <multistate/io/text_file.hpp>

namespace {

using namespace multistate;
namespace fs = std::filesystem;

const fs::path shared = MULTISTATE_SHARED_DATA, all_texts = shared / "golden/models/tokenizers",
               folder = fs::path(MULTISTATE_TEST_DATA) / "golden/tokenizers";

/// The i-th stretch of a tensor that holds many, one behind the other.
struct stretches {
  std::vector<std::int32_t> all, offsets;
  stretches(const safetensors& file, const std::string& name, const std::string& at)
      : all(file.ints(name).value()), offsets(file.ints(at).value()) {}
  std::size_t size() const { return offsets.size() - 1; }
  std::vector<int> operator[](std::size_t i) const { return {all.begin() + offsets[i], all.begin() + offsets[i + 1]}; }
};

class golden_tokenizer : public testing::TestWithParam<const char*> {};

/// Ids of whole texts.
TEST_P(golden_tokenizer, gives_the_ids_of_hugging_face_for_texts) {
  const fs::path home = all_texts / GetParam();
  if (!fs::exists(home)) GTEST_SKIP() << home << " is not there";
  const auto words = load_tokenizer_json(home / "tokenizer.json");
  ASSERT_TRUE(words) << words.reason().message();
  const auto expected = safetensors::open(home / "expected.safetensors").value();
  for (const char* name : {"dracula", "pride_and_prejudice", "sherlock_holmes_adventures"}) {
    const std::string text = read_text(shared / "texts/valid" / (std::string(name) + ".txt")).value();
    const auto ids = words->encode(std::string_view(text).substr(0, 20000));
    ASSERT_TRUE(ids) << ids.reason().message();
    EXPECT_EQ(*ids, expected.ints(name).value()) << name;
  }
}

/// Ids of hard cases, with special tokens as text and as themselves, and the bytes of those ids.
TEST_P(golden_tokenizer, gives_the_ids_of_hugging_face_for_hard_cases) {
  const fs::path home = folder / GetParam();
  const auto words = load_tokenizer_json(home / "tokenizer.json");
  ASSERT_TRUE(words) << words.reason().message();
  const auto expected = safetensors::open(home / "expected.safetensors").value();
  const auto cases = safetensors::open(folder / "cases.safetensors").value();
  const auto bytes = cases.find("case_bytes");
  ASSERT_NE(bytes, nullptr);
  const std::vector<int> offsets = cases.ints("case_offsets").value();
  const auto raw = cases.data(*bytes);
  const stretches special(expected, "case_ids", "case_offsets"), plain(expected, "plain_ids", "plain_offsets");
  ASSERT_EQ(special.size() + 1, offsets.size());
  const auto decoded = expected.data(*expected.find("decoded_bytes"));
  const std::vector<int> decoded_at = expected.ints("decoded_offsets").value();
  const bool adds = expected.find("with_bos_ids") != nullptr;
  EXPECT_EQ(!words->opens().empty(), adds);
  for (std::size_t i = 0; i < special.size(); ++i) {
    const std::string_view text(reinterpret_cast<const char*>(raw.data()) + offsets[i],
                                static_cast<std::size_t>(offsets[i + 1] - offsets[i]));
    EXPECT_EQ(words->encode(text, spelling::special).value(), special[i]) << text;
    EXPECT_EQ(words->encode(text).value(), plain[i]) << text;
    EXPECT_EQ(words->spell(special[i]), std::string_view(reinterpret_cast<const char*>(decoded.data()) + decoded_at[i],
                                                         static_cast<std::size_t>(decoded_at[i + 1] - decoded_at[i])));
    if (adds) {
      std::vector<int> with(words->opens().begin(), words->opens().end());
      const std::vector<int> inner = special[i];
      with.insert(with.end(), inner.begin(), inner.end());
      EXPECT_EQ(stretches(expected, "with_bos_ids", "with_bos_offsets")[i], with) << text;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(all, golden_tokenizer, testing::Values("llama3", "qwen2", "gpt2", "llama2"),
                         [](const auto& name) { return std::string(name.param); });

}  // namespace
