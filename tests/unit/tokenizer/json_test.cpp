#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include <multistate/io/any_tokenizer.hpp>

namespace {

using namespace multistate;
using json = nlohmann::json;
namespace fs = std::filesystem;

/// A folder that goes away, with a tokenizer.json.
class home {
 public:
  explicit home(const json& tokenizer) {
    static int number = 0;
    folder_ =
        fs::temp_directory_path() / ("multistate-json-" + std::to_string(::getpid()) + "-" + std::to_string(number++));
    fs::create_directories(folder_);
    write("tokenizer.json", tokenizer);
  }
  home(const home&) = delete;
  home& operator=(const home&) = delete;
  ~home() { fs::remove_all(folder_); }
  void write(const char* name, const json& value) const { std::ofstream(folder_ / name) << value.dump(); }
  result<tokenizer> load() const { return load_tokenizer_json(folder_ / "tokenizer.json"); }
  const fs::path& path() const { return folder_; }

 private:
  fs::path folder_;
};

/// Byte level: h, i, "hi", a space, and "a special one".
json byte_level() {
  return json::parse(R"({
    "model": {"type": "BPE", "vocab": {"h": 0, "i": 1, "hi": 2, "\u0120": 3, "\u0120hi": 4, "1": 5}, "merges": ["h i", ["\u0120", "hi"]]},
    "added_tokens": [{"id": 6, "content": "<s>", "special": true}],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
    "post_processor": null,
    "decoder": {"type": "ByteLevel"}})");
}
/// As Llama 2: spaces are signs, bytes stand for what has no piece.
json sign_level() {
  return json::parse(R"({
    "model": {"type": "BPE", "vocab": {"<unk>": 0, "<s>": 1, "<0x62>": 2, "a": 3, "\u2581": 4, "\u2581a": 5}, "merges": ["\u2581 a"],
              "byte_fallback": true, "unk_token": "<unk>", "fuse_unk": true},
    "added_tokens": [{"id": 0, "content": "<unk>", "special": true}, {"id": 1, "content": "<s>", "special": true}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"},
                   {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
    "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
                       "special_tokens": {"<s>": {"id": "<s>", "ids": [1]}}},
    "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}})");
}

std::string refusal(const json& file) {
  const auto made = home(file).load();
  return made ? "" : std::string(made.reason().message());
}

TEST(io_tokenizer_json, byte_level) {
  const home folder(byte_level());
  const auto t = folder.load();
  ASSERT_TRUE(t) << t.reason().message();
  EXPECT_EQ(t->encode("hi hi  h1").value(), (std::vector{2, 4, 3, 3, 0, 5}));
  EXPECT_EQ(t->vocab(), 7);
  EXPECT_EQ(t->bos(), -1);
  EXPECT_TRUE(t->opens().empty());
  EXPECT_EQ(t->decode(4, -1), " hi") << "no space was put before the text";
  EXPECT_EQ(t->encode("<s>").value(), std::vector<int>()) << "text, of which nothing has a piece";
  EXPECT_EQ(t->encode("<s>", spelling::special).value(), std::vector{6});
  EXPECT_EQ(t->spell(std::vector{6, 2, 99, -1}), "<s>hi");
  EXPECT_EQ(t->decode(6, -1), "");
  EXPECT_EQ(t->special("<s>"), 6);
  EXPECT_EQ(t->special("hi"), -1);
  folder.write("tokenizer_config.json", {{"bos_token", {{"content", "<s>"}}}});
  EXPECT_EQ(folder.load()->bos(), 6) << "known, and not added";
  EXPECT_TRUE(folder.load()->opens().empty());
}

TEST(io_tokenizer_json, signs_for_spaces_and_bytes_for_the_rest) {
  const auto t = home(sign_level()).load();
  ASSERT_TRUE(t) << t.reason().message();
  EXPECT_EQ(t->encode("a ab").value(), (std::vector{5, 5, 2}));
  EXPECT_EQ(t->encode("acc").value(), (std::vector{5, 0})) << "one unknown for both";
  EXPECT_EQ(t->encode("").value(), std::vector<int>());
  EXPECT_EQ(t->bos(), 1);
  EXPECT_EQ(std::vector<int>(t->opens().begin(), t->opens().end()), std::vector{1});
  EXPECT_EQ(t->decode(5, 1), "a");
  EXPECT_EQ(t->decode(5, 3), " a");
  EXPECT_EQ(t->spell(std::vector{5, 2, 5}), "ab a");
  json first = sign_level();
  first["normalizer"] = nullptr;
  first["pre_tokenizer"] = {
      {"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", "first"}, {"split", true}};
  first["added_tokens"].push_back({{"id", 6}, {"content", "!"}});
  const auto other = home(first).load();
  ASSERT_TRUE(other) << other.reason().message();
  EXPECT_EQ(other->encode("a!a a").value(), (std::vector{5, 6, 3, 5}))
      << "a sign before the text, and not behind a token";
}

TEST(io_tokenizer_json, refuses_by_name_what_it_does_not_know) {
  const auto with = [](const char* part, json value) {
    json file = byte_level();
    file[part] = std::move(value);
    return refusal(file);
  };
  EXPECT_NE(with("model", {{"type", "Unigram"}}).find("Unigram"), std::string::npos);
  EXPECT_NE(with("normalizer", {{"type", "Precompiled"}}).find("Precompiled"), std::string::npos);
  EXPECT_NE(with("pre_tokenizer", {{"type", "UnicodeScripts"}}).find("UnicodeScripts"), std::string::npos);
  EXPECT_NE(with("pre_tokenizer", {{"type", "Split"}, {"pattern", {{"Regex", "("}}}, {"behavior", "Isolated"}})
                .find("not understood"),
            std::string::npos);
  EXPECT_NE(with("post_processor", {{"type", "RobertaProcessing"}}).find("RobertaProcessing"), std::string::npos);
  EXPECT_NE(with("decoder", {{"type", "WordPiece"}}).find("WordPiece"), std::string::npos);
  EXPECT_NE(with("added_tokens", {{{"id", 2}, {"content", "x"}}}).find("has the id 2"), std::string::npos);
  EXPECT_NE(with("added_tokens", {{{"id", 4000000000u}, {"content", "x"}}}).find("4000000000"), std::string::npos);
  json merge = byte_level();
  merge["model"]["merges"].push_back("h x");
  EXPECT_NE(refusal(merge).find("merge 2"), std::string::npos);
  merge["model"]["merges"] = {"i h"};
  EXPECT_NE(refusal(merge).find("merge 0"), std::string::npos) << "ih is no piece";
}

TEST(io_tokenizer_json, is_found_in_a_folder) {
  const home folder(byte_level());
  EXPECT_EQ(find_tokenizer(folder.path(), 300)->encode("hi").value(), std::vector{2});
  EXPECT_EQ(open_tokenizer(folder.path() / "tokenizer.json", 300)->vocab(), 7);
  EXPECT_EQ(find_tokenizer(folder.path(), 257)->vocab(), 257) << "a vocabulary of bytes needs none";
}

TEST(io_tokenizer_json, what_a_normalizer_makes_of_a_text_is_bounded) {
  json doubling = byte_level();
  json& steps = doubling["normalizer"];
  steps = {{"type", "Sequence"}, {"normalizers", json::array()}};
  for (int i = 0; i < 40; ++i)
    steps["normalizers"].push_back({{"type", "Replace"}, {"pattern", {{"String", "h"}}}, {"content", "hh"}});
  const auto t = home(doubling).load();
  ASSERT_TRUE(t) << t.reason().message();
  EXPECT_EQ(t->encode("i").value(), std::vector{1});
  const auto grown = t->encode("h");
  ASSERT_FALSE(grown);
  EXPECT_NE(grown.reason().message().find("more than"), std::string_view::npos) << grown.reason().message();
}

TEST(io_tokenizer_json, a_normalizer_that_gives_up_is_an_error) {
  json file = byte_level();
  file["normalizer"] = {{"type", "Replace"}, {"pattern", {{"Regex", "(h+h+)+i"}}}, {"content", ""}};
  const auto t = home(file).load();
  ASSERT_TRUE(t) << t.reason().message();
  EXPECT_EQ(t->encode("hhhi1").value(), std::vector{5});
  const auto given_up = t->encode(std::string(64, 'h') + "1i");
  ASSERT_FALSE(given_up);
  EXPECT_NE(given_up.reason().message().find("gave up"), std::string_view::npos) << given_up.reason().message();
}

TEST(io_tokenizer_json, strips_every_white_space) {
  json file = byte_level();
  file["normalizer"] = {{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}};
  const auto t = home(file).load();
  ASSERT_TRUE(t) << t.reason().message();
  EXPECT_EQ(t->encode("\u3000\u00a0 hi\u2003\n").value(), std::vector{2});
  EXPECT_EQ(t->encode("\u3000 ").value(), std::vector<int>());
}

}  // namespace
