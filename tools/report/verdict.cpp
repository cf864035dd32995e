#include <tools/report/verdict.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include <multistate/eval/ranking.hpp>
#include <tools/report/policy_names.hpp>

namespace multistate::tools {

namespace {

phrase words(std::string text) { return {phrase::kind::words, std::move(text)}; }
phrase name(std::string text) { return {phrase::kind::name, std::move(text)}; }
phrase number(std::string text) { return {phrase::kind::number, std::move(text)}; }

void add(sentence& to, sentence more) {
  to.insert(to.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

/// Nats per token.
phrase amount(double nats) { return number(fixed_number(nats, std::abs(nats) < 0.0995 ? 3 : 2)); }

/// What nats do to the perplexity: "83 % higher perplexity".
sentence perplexity_of(double nats) {
  const double percent = 100 * std::expm1(nats);
  const double size = std::abs(percent);
  if (size < 0.05) return {words("the same perplexity")};
  if (percent >= 1000)
    return {number(fixed_number(std::exp(std::min(nats, 300.0)), 0)), words(" times the perplexity")};
  return {number(fixed_number(size, size < 9.95 ? 1 : 0)),
          words(percent > 0 ? " % higher perplexity" : " % lower perplexity")};
}

/// The entries that compete at a budget, the cheapest first.
std::vector<const report_json*> competitors(const report_json& entries, const report_json& budget) {
  std::vector<const report_json*> out;
  for (const report_json& entry : entries)
    if (field(entry, "budget") == budget && !is_reference(word_at(entry, "policy")) &&
        std::isfinite(number_at(entry, "nll_minus_full")))
      out.push_back(&entry);
  std::stable_sort(out.begin(), out.end(), [](const auto* a, const auto* b) {
    return number_at(*a, "nll_minus_full") < number_at(*b, "nll_minus_full");
  });
  return out;
}

/// The budget that is spoken of, and who competes there.
struct chosen_budget {
  report_json budget;
  std::vector<const report_json*> entries;  ///< the cheapest first; none: there is no such budget
  bool all_kept = false;                    ///< some budget forgot nothing
};
chosen_budget choose(const report_json& report) {
  constexpr double near = 0.05;  // nats: some 5 % of perplexity
  const report_json& all = list_at(report, "rows");
  chosen_budget out;
  bool found = false;
  for (const report_json& k : distinct(all, "budget")) {
    auto entries = competitors(all, k);
    if (entries.empty() || !k.is_number()) continue;
    if (!forgets(report, k)) {
      out.all_kept = true;
      continue;
    }
    const bool good = number_at(*entries[0], "nll_minus_full") <= near;
    const bool smaller = out.entries.empty() || as_number(k) < as_number(out.budget);
    const bool better = good ? !found || smaller : !found && !smaller;
    if (!out.entries.empty() && !better) continue;
    out.budget = k;
    out.entries = std::move(entries);
    found = good;
  }
  return out;
}

/// "With k = 64 states a layer (218 kB, 6.6 % of the unbounded cache), ".
sentence condition(const report_json& report, const chosen_budget& at) {
  double full_bytes = std::numeric_limits<double>::quiet_NaN();
  for (const report_json& entry : list_at(report, "rows"))
    if (role_of(word_at(entry, "policy")) == entry_role::full) full_bytes = number_at(entry, "bytes_allocated");
  const double bytes = number_at(*at.entries[0], "bytes_allocated"), share = bytes / full_bytes;
  sentence out{words("With k = " + text_of(at.budget) + " states a layer")};
  if (std::isfinite(bytes)) {
    add(out, {words(" ("), number(fixed_number(bytes, 0, 1e-3)), words(" kB")});
    if (full_bytes > 0)
      add(out,
          {words(", "), number(fixed_number(share, share < 0.1 ? 1 : 0, 100)), words(" % of the unbounded cache")});
    out.push_back(words(")"));
  }
  out.push_back(words(", "));
  return out;
}

/// "a, b and c".
sentence listed(const std::vector<std::string>& names) {
  sentence out;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (i > 0) out.push_back(words(i + 1 == names.size() ? " and " : ", "));
    out.push_back(name(names[i]));
  }
  return out;
}

sentence dearest(const report_json& entry) {
  const double most = number_at(entry, "nll_minus_full");
  sentence out{name(word_at(entry, "policy")), words(" loses most, "), amount(most), words(" (")};
  add(out, perplexity_of(most));
  out.push_back(words(")"));
  return out;
}

sentence cost_sentence(const report_json& report) {
  const chosen_budget at = choose(report);
  if (at.entries.empty() && at.all_kept)
    return {words("Nothing was forgotten in this run: every budget holds the longest window, "),
            number(fixed_number(longest_window(report), 0)), words(" tokens.")};
  if (at.entries.empty()) return {words("No policy with a budget was measured in this run.")};
  const std::size_t windows = list_at(report, "windows").size();
  const std::string letters = word_at(*at.entries[0], "letter");
  const bool ranked = windows >= ranking::least_windows && !letters.empty();

  std::vector<std::string> best;
  double best_most = 0;
  const double least = number_at(*at.entries[0], "nll_minus_full");
  for (const report_json* entry : at.entries) {
    const bool alike = ranked && word_at(*entry, "letter").find_first_of(letters) != std::string::npos;
    if (entry != at.entries[0] && !alike) continue;
    best.push_back(word_at(*entry, "policy"));
    best_most = number_at(*entry, "nll_minus_full");
  }
  sentence out = condition(report, at);
  if (at.entries.size() == 1) {
    add(out, {words("forgetting costs "), amount(least), words(" nats per token under "), name(best[0]), words(" (")});
    add(out, perplexity_of(least));
    out.push_back(words(")"));
  } else if (best.size() > 1) {
    add(out, listed(best));
    add(out, {words(" lose least and can't be told apart, "), amount(least), words(" to "), amount(best_most),
              words(" nats per token (at most ")});
    add(out, perplexity_of(best_most));
    out.push_back(words(")"));
  } else {
    add(out, {name(best[0]), words(" loses least, "), amount(least), words(" nats per token (")});
    add(out, perplexity_of(least));
    out.push_back(words(")"));
  }
  if (at.entries.size() > best.size()) {
    out.push_back(words("; "));
    add(out, dearest(*at.entries.back()));
  }
  if (windows < ranking::least_windows)
    out.push_back(words("; " + std::to_string(windows) + (windows == 1 ? " window is" : " windows are") +
                        " too few to rank them"));
  else if (!ranked)
    out.push_back(words("; without intervals they are not ranked"));
  out.push_back(words("."));
  return out;
}

/// Right answers.
struct answers {
  double right = 0, asked = 0;
  double share() const noexcept { return right / asked; }
};

sentence recall_sentence(const report_json& report) {
  std::map<std::string, answers> far;  // by policy, of facts told further back than the budget
  answers full;
  for (const report_json& cell : list_at(field(report, "recall"), "cells")) {
    const double asked = number_at(cell, "asked");
    if (field(cell, "facts") != 1 || word_at(cell, "variant") != "last" || word_at(cell, "mode") != "sequential" ||
        is_true(cell, "not_applicable") || is_reference(word_at(cell, "policy")) || !(asked > 0) ||
        !(number_at(cell, "distance") > number_at(cell, "budget")))
      continue;
    answers& a = far[word_at(cell, "policy")];
    a.right += number_at(cell, "share") * asked;
    a.asked += asked;
    full.right += number_at(cell, "full_share") * asked;
    full.asked += asked;
  }
  std::erase_if(far, [](const auto& entry) { return !std::isfinite(entry.second.share()); });
  if (far.empty()) return {};
  const auto [worst, best] = std::minmax_element(
      far.begin(), far.end(), [](const auto& a, const auto& b) { return a.second.share() < b.second.share(); });
  const auto percent = [](double share) { return number(fixed_number(share, 0, 100)); };
  sentence unbounded;
  if (std::isfinite(full.share()))
    unbounded = {words("; the unbounded cache answers "), percent(full.share()), words(" %")};
  constexpr double lost = 0.1, remembered = 0.9;
  sentence out;
  if (best->second.share() <= lost || worst->second.share() >= remembered) {
    const bool gone = best->second.share() <= lost;
    constexpr double tiny = 1e-9;  // percent: what rounding leaves of a whole number
    const double bound = gone ? std::ceil(100 * best->second.share() - tiny) / 100
                              : std::floor(100 * worst->second.share() + tiny) / 100;
    out = {words(std::string("Facts told further back than the last k tokens are ") + (gone ? "lost" : "remembered") +
                 " under ")};
    out.push_back(far.size() == 1 ? name(best->first) : words("every policy"));
    if (gone && best->second.right < 0.5)
      out.push_back(words(": no question about them is answered right"));
    else
      add(out, {words(gone ? ": at most " : ": at least "), percent(bound),
                words(" % of the questions about them are answered right")});
  } else if (far.size() == 1) {
    out = {words("Of questions about facts told further back than the last k tokens "), name(best->first),
           words(" answers "), percent(best->second.share()), words(" %")};
  } else {
    out = {words("Of questions about facts told further back than the last k tokens "),
           name(best->first),
           words(" answers most, "),
           percent(best->second.share()),
           words(" %, and "),
           name(worst->first),
           words(" fewest, "),
           percent(worst->second.share()),
           words(" %")};
  }
  add(out, std::move(unbounded));
  out.push_back(words("."));
  return out;
}

}  // namespace

std::string plain(const sentence& s) {
  std::string out;
  for (const phrase& p : s) out += p.text;
  return out;
}

markup to_markup(const sentence& s) {
  markup out;
  for (const phrase& p : s) {
    if (p.said_as == phrase::kind::name)
      out += code(p.text);
    else if (p.said_as == phrase::kind::number && p.text.starts_with('-'))
      out += "&#8722;" + escaped(std::string_view(p.text).substr(1));
    else
      out += escaped(p.text);
  }
  return out;
}

verdict verdict_of(const report_json& report) {
  verdict out;
  if (is_true(report, "interrupted")) {
    const std::size_t windows = list_at(report, "windows").size();
    out.interrupted = {words("The run was interrupted: the figures are of the " +
                             (windows == 1 ? "one window" : std::to_string(windows) + " windows") +
                             " that it finished, and may change when it goes on.")};
  }
  out.cost = cost_sentence(report);
  out.recall = recall_sentence(report);
  return out;
}

}  // namespace multistate::tools
