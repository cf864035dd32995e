#include <tools/runs/policy_list.hpp>

#include <charconv>
#include <system_error>
#include <utility>

namespace multistate::tools {

namespace {

// "name:k" or "name" where k is a budget; none where the text is neither.
std::optional<std::pair<std::string_view, std::optional<int>>> name_and_budget(std::string_view text) {
  const std::size_t colon = text.find(':');
  if (colon == text.npos) return std::pair(text, std::optional<int>());
  int value = 0;
  const auto [end, code] = std::from_chars(text.data() + colon + 1, text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size() || value < 1 || value > max_tokens) return std::nullopt;
  return std::pair(text.substr(0, colon), std::optional(value));
}

}  // namespace

std::string policy_choice::label() const { return policy.str_without_budget() + suffix_of(positions); }

std::string run_spec::label() const { return kind == run_kind::policy ? choice->label() : std::string(name_of(kind)); }

policy_list::policy_list(std::vector<policy_entry> own) : entries_(std::move(own)) {
  for (const policy_entry& entry : entries_of(standard_policies())) entries_.push_back(entry);
}

const policy_entry* policy_list::find(std::string_view name) const noexcept {
  for (const policy_entry& entry : entries_)
    if (entry.name == name) return &entry;
  return nullptr;
}

std::string policy_list::names() const {
  std::string list;
  for (const policy_entry& entry : entries_)
    ((list += list.empty() ? "" : ", ") += entry.name) += entry.takes_number ? "[+N]" : "";
  return list;
}

result<policy_choice> policy_list::parse_policy(std::string_view text) const {
  const std::size_t at = text.find('@');
  const std::string_view policy = text.substr(0, at);
  auto parsed = multistate::parse_policy(entries_, policy);
  if (!parsed) return parsed.reason();
  policy_choice choice{.policy = *parsed, .seed_given = policy.find(",seed=") != policy.npos};
  if (at == text.npos) return choice;
  const std::string_view suffix = text.substr(at);
  for (const position_mode mode : {position_mode::in_cache, position_mode::log})
    if (suffix == suffix_of(mode)) choice.positions = mode;
  if (choice.positions == position_mode::original)
    return error(errc::bad_string, "policy '", text, "': '", suffix,
                 "' is no position mode; there are @incache and @log, as the last part");
  return choice;
}

result<run_spec> policy_list::parse_run(std::string_view text) const {
  if (const auto item = name_and_budget(text))
    for (const run_kind kind : {run_kind::oracle, run_kind::short_context})
      if (item->first == name_of(kind)) return run_spec{.kind = kind, .choice = {}, .budget = item->second};
  auto choice = parse_policy(text);
  if (!choice) {
    error e = choice.reason();
    if (find(text.substr(0, text.find_first_of("+:,@"))) == nullptr) e.append("; and oracle, short");
    return e;
  }
  if (choice->policy.paired() || choice->policy.prompts_only())
    return error(errc::bad_string, "policy '", text,
                 "': a comparison reads token by token, without a prompt; take a policy such as tova, or replay");
  std::optional<int> budget;
  if (choice->policy.budget() > 0) budget = choice->policy.budget();
  return run_spec{.kind = run_kind::policy, .choice = std::move(*choice), .budget = budget};
}

}  // namespace multistate::tools
