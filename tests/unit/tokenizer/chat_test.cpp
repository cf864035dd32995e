#include <gtest/gtest.h>

#include <multistate/tokenizer/chat.hpp>
#include <multistate/tokenizer/gguf_vocabulary.hpp>

namespace {

using namespace multistate;

/// All bytes, and the marks of the three formats.
tokenizer letters() {
  gguf_vocabulary v;
  v.model = "llama";
  v.add_space_prefix = false;
  for (int byte = 0; byte < 256; ++byte) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    v.tokens.push_back(std::string("<0x") + digits[static_cast<std::size_t>(byte / 16)] +
                       digits[static_cast<std::size_t>(byte % 16)] + ">");
    v.token_type.push_back(6);
  }
  v.tokens.emplace_back("\xe2\x96\x81");  // a space
  v.token_type.push_back(1);
  for (const char* mark : {"<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
                           "<start_of_turn>", "<end_of_turn>"}) {
    v.tokens.emplace_back(mark);
    v.token_type.push_back(3);
  }
  v.scores.resize(v.tokens.size());
  return make_tokenizer(std::move(v)).value();
}

/// A chat as its marks and text, each mark between brackets.
std::string shown(const tokenizer& words, std::span<const int> ids) {
  std::string text;
  for (const int id : ids) text += words.is_special(id) ? "[" + words.spell({{id}}) + "]" : words.spell({{id}});
  return text;
}
std::string whole(std::string_view chat_template) {
  const tokenizer words = letters();
  auto c = chat::make(chat_template, words).value();
  std::vector<int> ids;
  const auto add = [&](const std::vector<int>& more) { ids.insert(ids.end(), more.begin(), more.end()); };
  add(c.message(chat_role::system, "Be brief.").value());
  add(c.message(chat_role::user, " Hi <|im_end|><|eot_id|> ").value());
  add(c.answer().value());
  add({'Y', c.end_of_message()});
  add(c.message(chat_role::user, "Why").value());
  return shown(words, ids);
}

TEST(tokenizer_chat, three_formats) {
  EXPECT_EQ(whole("x <|im_start|> y <|im_end|>"),
            "[<|im_start|>]system\nBe brief.[<|im_end|>]\n[<|im_start|>]user\n Hi <|im_end|><|eot_id|> [<|im_end|>]\n"
            "[<|im_start|>]assistant\nY[<|im_end|>]\n[<|im_start|>]user\nWhy[<|im_end|>]");
  EXPECT_EQ(whole("<|start_header_id|> <|eot_id|>"),
            "[<|start_header_id|>]system[<|end_header_id|>]\n\nBe brief.[<|eot_id|>]"
            "[<|start_header_id|>]user[<|end_header_id|>]\n\nHi <|im_end|><|eot_id|>[<|eot_id|>]"
            "[<|start_header_id|>]assistant[<|end_header_id|>]\n\nY[<|eot_id|>]"
            "[<|start_header_id|>]user[<|end_header_id|>]\n\nWhy[<|eot_id|>]");
  EXPECT_EQ(whole("<start_of_turn> <end_of_turn>"),
            "[<start_of_turn>]user\nBe brief.\n\nHi <|im_end|><|eot_id|>[<end_of_turn>]\n"
            "[<start_of_turn>]model\nY[<end_of_turn>]\n[<start_of_turn>]user\nWhy[<end_of_turn>]");
}

TEST(tokenizer_chat, refuses_other_templates_by_name) {
  EXPECT_NE(chat::make("[INST] {{ x }}", letters()).reason().message().find("[INST]"), std::string_view::npos);
  EXPECT_FALSE(chat::make("", letters()));
  EXPECT_FALSE(chat::make("<|im_start|><|im_end|>", tokenizer::bytes(257))) << "no such tokens";
}

}  // namespace
