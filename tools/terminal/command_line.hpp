#pragma once

#include <fmt/format.h>

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <multistate/memory/memory_setup.hpp>
#include <multistate/policy/registry.hpp>
#include <tools/terminal/console.hpp>
namespace multistate::tools {

inline void ok_or_usage(const error& e) {
  if (!e) return;
  throw usage_error(std::string(e.message()) + (e.code() == errc::overflow ? " (--format)" : ""));
}

template <class T>
T value_or_usage(result<T>&& r) {
  if (!r) ok_or_usage(r.reason());
  return std::move(*r);
}

/// All of the text as a number, in the C locale's writing; none where it is something else.
inline std::optional<double> number_of(std::string_view text) {
  double value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || code != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

inline int whole_number(std::string_view flag, std::string_view text, int least, int most = max_tokens) {
  int value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || code != std::errc() || end != text.data() + text.size() || value < least || value > most)
    throw usage_error(std::string(flag) + " must be a whole number from " + std::to_string(least) + " to " +
                      std::to_string(most) + "; got '" + std::string(text) + "'");
  return value;
}

/// In the C locale's writing, whatever the program's locale is.
inline double real_number(std::string_view flag, std::string_view text, double least, double most) {
  const std::optional<double> value = number_of(text);
  if (!value || !(*value >= least && *value <= most))
    throw usage_error(fmt::format("{} must be a number from {} to {}; got '{}'", flag, least, most, text));
  return *value;
}

/// "16,64,256": each once, in the order given.
inline std::vector<int> whole_numbers(std::string_view flag, std::string_view text, int least) {
  std::vector<int> values;
  for (bool more = true; more;) {
    const std::size_t comma = text.find(',');
    more = comma != text.npos;
    const int value = whole_number(flag, text.substr(0, comma), least);
    if (std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
    text.remove_prefix(more ? comma + 1 : text.size());
  }
  return values;
}

/// "name:k" or "name": budget where it is nothing but a number.
inline std::pair<std::string_view, std::optional<int>> split_item(std::string_view item) {
  const std::size_t colon = item.find(':');
  if (colon == item.npos) return {item, std::nullopt};
  int value = 0;
  const auto [end, code] = std::from_chars(item.data() + colon + 1, item.data() + item.size(), value);
  if (code != std::errc() || end != item.data() + item.size() || value < 1 || value > max_tokens)
    return {item, std::nullopt};
  return {item.substr(0, colon), value};
}

/// How a position mode stands behind a policy.
constexpr const char* suffix_of(position_mode positions) noexcept {
  return positions == position_mode::in_cache ? "@incache" : positions == position_mode::log ? "@log" : "";
}

/// One policy of a command line: `name[+i][:k][,key=value]...[@incache|@log]`.
template <class Registry>
struct policy_choice {
  any_policy<Registry> policy;
  position_mode positions = position_mode::original;

  static result<policy_choice> parse(std::string_view text) {
    const std::size_t at = text.find('@');
    auto policy = any_policy<Registry>::parse(text.substr(0, at));
    if (!policy) return policy.reason();
    policy_choice choice{*policy};
    if (at == text.npos) return choice;
    const std::string_view suffix = text.substr(at);
    for (const position_mode mode : {position_mode::in_cache, position_mode::log})
      if (suffix == suffix_of(mode)) choice.positions = mode;
    if (choice.positions == position_mode::original)
      return error(errc::bad_string, "policy '", text, "': '", suffix,
                   "' is no position mode; there are @incache and @log, as the last part");
    return choice;
  }
  std::string label() const { return policy.str_without_budget() + suffix_of(positions); }
};

/// Words as a shell takes them.
inline std::string command_text(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& w : words) {
    const bool plain = !w.empty() && w.find_first_of(" \t\n'\"\\$&|;<>()*?#~`[]{}!") == w.npos;
    std::string quoted;
    for (const char c : w) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
    (line += line.empty() ? "" : " ") += plain ? w : "'" + quoted + "'";
  }
  return line;
}

/// A program that is called often enough finds its way: where the demo model and text lie, beside an installed program
/// or in the source tree. Empty where there are none.
inline std::filesystem::path data_folder() {
  std::error_code code;
#if defined(MULTISTATE_INSTALL_DATA_DIR)
  const auto program = std::filesystem::read_symlink("/proc/self/exe", code);
  if (!code) {
    auto installed = (program.parent_path() / MULTISTATE_INSTALL_DATA_DIR).lexically_normal();
    if (std::filesystem::is_directory(installed / "demo_model", code)) return installed;
  }
#endif
#if defined(MULTISTATE_BUILD_DATA_DIR)
  if (std::filesystem::is_directory(std::filesystem::path(MULTISTATE_BUILD_DATA_DIR) / "demo_model", code))
    return MULTISTATE_BUILD_DATA_DIR;
#endif
  return {};
}

/// One line on the terminal that is written over and taken away at the end; nothing where stderr is no terminal.
class progress_bar {
  using clock = std::chrono::steady_clock;

 public:
  explicit progress_bar(bool wanted) : shown_(wanted && ::isatty(STDERR_FILENO) != 0) {}
  progress_bar(const progress_bar&) = delete;
  progress_bar& operator=(const progress_bar&) = delete;
  ~progress_bar() { clear(); }

  /// What comes next; its time left is counted from here.
  void begin(std::string phase) {
    clear();
    phase_ = std::move(phase);
    begun_ = clock::now();
  }
  void operator()(double done) {
    const auto now = clock::now();
    if (!shown_ || now - drawn_ < std::chrono::milliseconds(100)) return;
    drawn_ = now;
    constexpr int width = 40;
    const int full = static_cast<int>(done * width);
    const double seconds = std::chrono::duration<double>(now - begun_).count();
    const std::string line =
        fmt::format("\r\033[K[{}{}] {:3.0f} %  {:4.0f} s left  {}", std::string(static_cast<std::size_t>(full), '#'),
                    std::string(static_cast<std::size_t>(width - full), '.'), 100 * done,
                    done > 0 ? seconds * (1 - done) / done : 0.0, phase_);
    std::fputs(line.c_str(), stderr);
  }
  void clear() {
    if (shown_ && drawn_ != clock::time_point()) std::fputs("\r\033[K", stderr);
    drawn_ = {};
  }

 private:
  bool shown_;
  std::string phase_;
  clock::time_point begun_ = clock::now(), drawn_;
};

}  // namespace multistate::tools
