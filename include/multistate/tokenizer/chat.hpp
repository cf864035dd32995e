#pragma once

#include <algorithm>
#include <array>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include <multistate/tokenizer/tokenizer.hpp>

namespace multistate {

/// Who says something in a chat.
enum class chat_role : unsigned char { system, user, assistant };

/// How a model marks who says what: OPENS role CLOSES text ENDS. Control tokens come from these marks alone; what
/// anybody says is text, whatever it spells.
struct chat_format {
  std::string_view name;
  std::string_view opens;        ///< the special token before a role; a chat template that has it is of this format
  std::string_view role_ends;    ///< the special token behind the role; "": none
  std::string_view before_text;  ///< text between the role and what is said
  std::string_view ends;         ///< the special token that ends a message
  std::string_view after;        ///< text behind it
  std::string_view assistant;    ///< what the model's own role is called
  bool has_system = true;        ///< else what the system says begins the first thing that the user says
  bool trims = true;             ///< blanks around what is said are left out
};

/// ChatML, Llama 3's and Gemma's.
inline constexpr std::array chat_formats{
    chat_format{"chatml", "<|im_start|>", "", "\n", "<|im_end|>", "\n", "assistant", true, false},
    chat_format{"llama3", "<|start_header_id|>", "<|end_header_id|>", "\n\n", "<|eot_id|>", "", "assistant"},
    chat_format{"gemma", "<start_of_turn>", "", "\n", "<end_of_turn>", "\n", "model", false}};

/// A chat in one format, message by message, as ids.
class chat {
 public:
  /// `chat_template`: the model's own (Jinja), which names the format. Errors: none of those known here; a vocabulary
  /// without its marks.
  static result<chat> make(std::string_view chat_template, tokenizer words) {
    if (chat_template.empty())
      return error(errc::not_supported, "the model has no chat template; --chat needs one of chatml, llama3, gemma");
    const auto format = std::find_if(chat_formats.begin(), chat_formats.end(), [&](const chat_format& f) {
      return chat_template.find(f.opens) != chat_template.npos && chat_template.find(f.ends) != chat_template.npos;
    });
    if (format == chat_formats.end())
      return error(errc::not_supported,
                   "the model's chat template is neither chatml nor llama3 nor gemma; it begins with ",
                   chat_template.substr(0, 40));
    for (const std::string_view mark : {format->opens, format->role_ends, format->ends})
      if (!mark.empty() && words.special(mark) < 0)
        return error(errc::bad_file, "the chat template has ", mark, ", which is no special token of the tokenizer");
    return chat(*format, std::move(words));
  }

  const chat_format& format() const noexcept { return format_; }
  /// The token that ends a message.
  int end_of_message() const noexcept { return words_.special(format_.ends); }

  /// All that somebody says, with its marks. Errors: text that can't be tokenized.
  result<std::vector<int>> message(chat_role role, std::string_view said) {
    if (role == chat_role::system && !format_.has_system) {
      waiting_ = std::string(trimmed(said)) + "\n\n";
      return std::vector<int>();
    }
    std::string text = waiting_ + std::string(format_.trims ? trimmed(said) : said);
    if (role == chat_role::user) waiting_.clear();
    std::vector<int> ids;
    if (const error e = open(role, text, ids)) return e;
    ids.push_back(end_of_message());
    return ids;
  }
  /// What comes before an answer of the model's: the model goes on from there.
  result<std::vector<int>> answer() {
    std::vector<int> ids;
    if (const error e = open(chat_role::assistant, {}, ids)) return e;
    return ids;
  }

 private:
  chat(const chat_format& format, tokenizer words) : format_(format), words_(std::move(words)) {}

  error open(chat_role role, std::string_view said, std::vector<int>& ids) {
    if (opened_)
      if (const error e = add(format_.after, ids)) return e;
    opened_ = true;
    ids.push_back(words_.special(format_.opens));
    std::string text(role == chat_role::assistant ? format_.assistant : role == chat_role::user ? "user" : "system");
    if (!format_.role_ends.empty()) {
      if (const error e = add(text, ids)) return e;
      ids.push_back(words_.special(format_.role_ends));
      text.clear();
    }
    return add((text += format_.before_text) += said, ids);
  }
  error add(std::string_view text, std::vector<int>& ids) const {
    const auto more = words_.encode(text);
    if (!more) return more.reason();
    ids.insert(ids.end(), more->begin(), more->end());
    return {};
  }
  static std::string_view trimmed(std::string_view text) noexcept {
    constexpr std::string_view blanks = " \t\r\n\v\f";
    const std::size_t begin = text.find_first_not_of(blanks);
    return begin == text.npos ? std::string_view() : text.substr(begin, text.find_last_not_of(blanks) + 1 - begin);
  }

  chat_format format_;
  tokenizer words_;
  std::string waiting_;  ///< what the system said, until the user speaks
  bool opened_ = false;  ///< a message has been
};

}  // namespace multistate
