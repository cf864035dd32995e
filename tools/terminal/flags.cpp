#include <tools/terminal/flags.hpp>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <system_error>
#include <utility>

#include <multistate/model/model_view.hpp>

namespace multistate::tools {

namespace {

// All of the text as a number; none where it is something else.
template <class Number>
std::optional<Number> number_of(std::string_view text) {
  Number value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || code != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// What stands between the commas.
std::vector<std::string_view> items_of(std::string_view list) {
  std::vector<std::string_view> items;
  for (;;) {
    const std::size_t comma = list.find(',');
    items.push_back(list.substr(0, comma));
    if (comma == list.npos) return items;
    list.remove_prefix(comma + 1);
  }
}

}  // namespace

CLI::Validator whole_number(int least, int most) {
  return {[=](std::string& text) -> std::string {
            const auto value = number_of<int>(text);
            if (value && *value >= least && *value <= most) return {};
            return fmt::format("must be a whole number from {} to {}; got '{}'", least, most, text);
          },
          ""};
}

CLI::Validator whole_number_list(int least, int most) {
  return {[one = whole_number(least, most)](std::string& text) -> std::string {
            for (std::string_view item : items_of(text)) {
              std::string copy(item);
              if (const std::string wrong = one(copy); !wrong.empty()) return wrong;
            }
            return {};
          },
          ""};
}

std::vector<int> numbers_of(std::string_view list) {
  std::vector<int> numbers;
  for (const std::string_view item : items_of(list)) {
    const int number = number_of<int>(item).value_or(0);
    if (std::find(numbers.begin(), numbers.end(), number) == numbers.end()) numbers.push_back(number);
  }
  return numbers;
}

CLI::Validator real_number(double least, double most) {
  return {[=](std::string& text) -> std::string {
            const auto value = number_of<double>(text);
            if (value && *value >= least && *value <= most) return {};
            return fmt::format("must be a number from {} to {}; got '{}'", least, most, text);
          },
          ""};
}

CLI::Validator one_of(std::vector<std::string> words) {
  std::string list = words.back();
  if (words.size() > 1) list = fmt::format("{} or {}", fmt::join(words.begin(), words.end() - 1, ", "), words.back());
  return {[words = std::move(words), list](std::string& text) -> std::string {
            if (std::find(words.begin(), words.end(), text) != words.end()) return {};
            return fmt::format("must be {}; got '{}'", list, text);
          },
          ""};
}

void add_bos_flag(CLI::App& app, std::string& bos) {
  app.add_option("--bos", bos, "Whether BOS opens each text: auto is what the tokenizer does by itself.")
      ->check(one_of({"auto", "yes", "no"}))
      ->capture_default_str();
}

CLI::Validator format_name() {
  std::vector<std::string> names;
  names.reserve(state_formats.size());
  for (const weight_format format : state_formats) names.emplace_back(name_of(format));
  return one_of(std::move(names));
}

std::optional<int> parse_flags(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForVersion& e) {
    print(std::string(e.what()) + "\n");
    return 0;
  } catch (const CLI::Success&) {
    print(app.help());
    return 0;
  } catch (const CLI::ValidationError& e) {  // "--chunk: must be ..." reads better as a sentence
    std::string line = e.what();
    if (const std::size_t colon = line.find(": must be "); colon != line.npos) line.erase(colon, 1);
    throw usage_error(line);
  }
  return std::nullopt;
}

void ok_or_usage(const error& e) {
  if (!e) return;
  throw usage_error(std::string(e.message()) + (e.code() == errc::overflow ? " (--format)" : ""));
}

std::string command_text(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& w : words) {
    const bool plain = !w.empty() && w.find_first_of(" \t\n'\"\\$&|;<>()*?#~`[]{}!") == w.npos;
    std::string quoted;
    for (const char c : w) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
    (line += line.empty() ? "" : " ") += plain ? w : "'" + quoted + "'";
  }
  return line;
}

}  // namespace multistate::tools
