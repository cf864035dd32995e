#include <tools/report/text.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include <multistate/io/file.hpp>
#include <multistate/io/printable.hpp>
#include <multistate/version.hpp>
#include <tools/report/columns.hpp>
#include <tools/report/verdict.hpp>
#include <tools/terminal/flags.hpp>

namespace multistate::tools {

namespace {

using multistate::detail::printable;

/// A table of text: the first column stands to the left, the others to the right of their room.
class text_table {
 public:
  explicit text_table(int width) : width_(static_cast<std::size_t>(std::max(width, 1))) {}

  /// Titles that stand above each other; all lines of a table have as many cells.
  void title(std::vector<std::string> cells) { lines_.push_back({std::move(cells), {}, false}); }
  void line(std::vector<std::string> cells, bool grey = false) { lines_.push_back({std::move(cells), {}, grey}); }
  /// The first cells as usual, words in the place of the others.
  void remark(std::vector<std::string> cells, std::string words) {
    lines_.push_back({std::move(cells), std::move(words), false});
  }
  /// An empty line.
  void gap() { lines_.push_back({}); }

  /// As many columns as there is room for, the first `least` always; a name that leaves them no room is cut.
  std::string str(std::size_t least, bool colour) const {
    std::vector<std::size_t> room = rooms();
    if (room.empty()) return "";
    std::size_t fixed = 0;
    for (std::size_t c = 1; c < std::min(least, room.size()); ++c) fixed += room[c];
    if (room[0] + fixed > width_) room[0] = width_ > fixed + shortest_name ? width_ - fixed : shortest_name;
    std::size_t columns = 0, used = 0;
    while (columns < room.size() && (columns < least || used + room[columns] <= width_)) used += room[columns++];
    std::string out;
    for (const entry& e : lines_) add(out, e, room, columns, colour);
    return out;
  }

 private:
  static constexpr std::size_t between = 2;        ///< spaces, at least
  static constexpr std::size_t shortest_name = 8;  ///< columns

  struct entry {
    std::vector<std::string> cells;
    std::string words;
    bool grey = false;
  };

  std::vector<std::size_t> rooms() const {
    std::vector<std::size_t> room;
    for (const entry& e : lines_)
      for (std::size_t c = 0; c < e.cells.size(); ++c) {
        if (c == room.size()) room.push_back(0);
        room[c] = std::max(room[c], e.cells[c].size() + (c > 0 ? between : 0));
      }
    return room;
  }
  void add(std::string& out, const entry& e, const std::vector<std::size_t>& room, std::size_t columns,
           bool colour) const {
    std::string line;
    for (std::size_t c = 0; c < std::min(columns, e.cells.size()); ++c) {
      const std::string& cell = e.cells[c];
      const std::size_t wide = room[c];
      if (c == 0 && cell.size() > wide)
        line += std::string(multistate::detail::cut_text(cell, wide - 2)) + "..";
      else if (c == 0)
        line += cell + std::string(wide - cell.size(), ' ');
      else
        line += std::string(wide - cell.size(), ' ') + cell;
    }
    if (!e.words.empty()) {
      const int indent = static_cast<int>(std::min(line.size() + between, width_ / 2));
      line = wrapped(line + "  " + e.words, static_cast<int>(width_), indent);
      line.pop_back();
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += colour && e.grey ? "\033[2m" + line + "\033[0m\n" : line + "\n";
  }

  std::size_t width_;
  std::vector<entry> lines_;
};

/// "tova:64"; "full".
std::string entry_name(const report_json& entry) {
  const report_json& budget = field(entry, "budget");
  return printable(word_at(entry, "policy") + (budget.is_null() ? "" : ":" + text_of(budget)));
}

/// A number of the JSON; "-" where there is none.
std::string number_or_dash(double x, int digits, double factor = 1) {
  const std::string text = fixed_number(x, digits, factor);
  return text.empty() ? "-" : text;
}

/// A title line of a part of the text, wrapped behind its first word.
std::string headline(std::string_view text, const text_style& style) {
  constexpr int indent = 9;
  return wrapped(text, style.width, indent);
}

}  // namespace

std::string wrapped(std::string_view text, int width, int indent) {
  const auto room = static_cast<std::size_t>(std::max(width, 1));
  const std::string margin(static_cast<std::size_t>(std::max(indent, 0)), ' ');
  std::string out, line;
  bool begun = false;  // the line holds a word
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t word = std::min(text.find_first_not_of(' ', at), text.size());
    const std::size_t end = std::min(text.find(' ', word), text.size());
    const bool fits = margin.size() + (end - word) <= room;  // what fits in no line stays where it is
    if (begun && fits && line.size() + (end - at) > room) {
      out += line + "\n";
      line = margin;
      at = word;
    }
    line += text.substr(at, end - at);
    begun = true;
    at = end;
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return out + line + "\n";
}

std::string header_text(const report& r, const text_style& style) {
  const text_sample& s = *r.sample;
  const auto windows = s.windows().first(r.outcome.windows);
  std::string out;
  const auto line = [&](std::string_view text) { out += headline(printable(text), style); };
  if (r.extrapolation) {
    line(fmt::format("EXTRAPOLATION: windows of {} tokens, the model was trained on {}; Full is no oracle here",
                     s.window(), r.trained_context));
    out += "\n";
  }
  const std::string commit = built_from().empty() ? "" : fmt::format(" ({})", built_from());
  line(fmt::format("multistate {}{}   {}", MULTISTATE_VERSION, commit, command_text(r.command_line)));
  line(fmt::format("model    {}   {}   trained context {}", r.model, hash_text(r.model_hash),
                   r.trained_context > 0 ? std::to_string(r.trained_context) : "unknown"));
  for (const auto& t : r.texts)
    line(fmt::format("text     {}   {}   {} of {} tokens", t.path, hash_text(t.hash), t.used, t.tokens));
  line(fmt::format("windows  {} of {} done, T = {}, stride {}; {}", windows.size(), s.windows().size(), s.window(),
                   s.stride(), bos_rule(r)));
  std::string from = "every query";
  if (s.rule() == scoring::tail && !windows.empty()) {
    from = "queries from " + std::to_string(windows[0].scored_from) + " on";
    for (const text_window& w : windows)
      if (w.scored_from != windows[0].scored_from) from = "queries of each window's second half";
  }
  line(fmt::format("scored   {} tokens, {} bytes: {}", s.scored(windows.size()), s.bytes(windows.size()), from));
  line(fmt::format("states   {}, {}; Full: {:.0f} bytes a token", r.format,
                   r.chunk == 1 ? "one token a step" : fmt::format("chunks of {}", r.chunk), r.full_bytes_per_token));
  line(fmt::format("machine  SIMD {}, {} thread{}", r.simd_target, r.threads, r.threads == 1 ? "" : "s"));
  if (r.statistics.blocks < block_bootstrap::least_blocks)
    line("95 %     no intervals: too few windows");
  else
    line(fmt::format("95 %     block bootstrap: {} resamples of {} of {} neighbouring window{}, seed {}{}",
                     r.statistics.how.resamples, r.statistics.over_texts ? "texts, then blocks" : "blocks",
                     r.statistics.block_windows, r.statistics.block_windows == 1 ? "" : "s", r.statistics.how.seed,
                     r.statistics.over_texts ? ""
                     : r.texts.size() == 1   ? "; this text only"
                                             : "; these texts only"));
  for (const run_result& result : r.results)
    if (result.seeds.size() > 1) {
      line(fmt::format("random   mean over seeds {} to {}", result.seeds.front(), result.seeds.back()));
      break;
    }
  return out;
}

std::string table_text(const report_json& json, const text_style& style) {
  const report_json& entries = list_at(json, "rows");
  const std::vector<const column*> columns = filled_columns(text_columns(), entries);
  text_table table(style.width);
  const bool marked = std::any_of(entries.begin(), entries.end(), [](const report_json& entry) {
    return parse_mark(word_at(entry, "mark")) != budget_mark::none;
  });
  const std::string no_mark = marked ? "   " : "";
  std::vector<std::string> titles, units;
  for (const column* c : columns) {
    titles.push_back(std::string(c->title) + (c->kind == column_kind::budget ? no_mark : ""));
    units.emplace_back(c->unit);
  }
  table.title(titles);
  table.title(units);
  bool starred = false, greyed = false;
  const report_json* group = nullptr;
  for (const report_json& entry : entries) {
    const budget_mark mark = parse_mark(word_at(entry, "mark"));
    const bool grey = mark == budget_mark::above_half, star = mark == budget_mark::above_quarter;
    starred = starred || star;
    greyed = greyed || grey;
    if (group == nullptr || *group != field(entry, "budget")) table.gap();
    group = &field(entry, "budget");
    const std::string skipped = word_at(entry, "skipped");
    const bool measured = skipped.empty() && !field(entry, "states_attended_max").is_null();
    std::vector<std::string> cells;
    for (const column* c : columns) {
      std::string cell = printable(cell_text(*c, entry));
      if (c->kind == column_kind::budget) cell += grey ? " **" : star ? " * " : no_mark;
      if (cell.empty() && c->kind == column_kind::number) cell = "-";
      cells.push_back(std::move(cell));
      if (!measured && c->kind == column_kind::budget) break;
    }
    if (measured)
      table.line(std::move(cells), grey);
    else
      table.remark(std::move(cells), skipped.empty() ? "not run" : "skipped: " + printable(skipped));
  }
  constexpr std::size_t least = 3;  // policy, budget, cost
  std::string out = table.str(least, style.colour) + "\n";
  out += wrapped("cost: nats per token above Full's (NLL-Full); 0.1 is a perplexity 10 % higher", style.width, 6);
  const bool shown = std::any_of(columns.begin(), columns.end(), [](const column* c) { return c->key == "letter"; });
  if (shown) out += wrapped("alike: policies of one budget that share a letter can't be told apart", style.width, 7);
  if (starred) out += wrapped("*   k > T/4: not much was forgotten", style.width, 4);
  if (greyed) out += wrapped("**  k >= T/2: little was forgotten, nothing from k = T on", style.width, 4);
  if (const double longest = longest_window(json); (starred || greyed) && longest < number_at(json, "window"))
    out += wrapped(fmt::format("    (T = {:.0f}, the tokens of the longest window)", longest), style.width, 4);
  return out;
}

std::string recall_text(const report_json& recall, const text_style& style) {
  std::vector<std::string> names;
  std::vector<int> distances;
  std::vector<const report_json*> cells;
  bool none = false;
  const auto name_of = [](const report_json& cell) {
    return entry_name(cell) + (word_at(cell, "variant") == "removed" ? ", fact removed" : "");
  };
  for (const report_json& cell : list_at(recall, "cells")) {
    if (field(cell, "facts") != 1 || word_at(cell, "mode") != "sequential" || word_at(cell, "variant") == "first_too")
      continue;
    cells.push_back(&cell);
    none = none || is_true(cell, "not_applicable");
    if (const std::string name = name_of(cell); names.empty() || names.back() != name) names.push_back(name);
    distances.push_back(bounded(number_at(cell, "distance")));
  }
  if (cells.empty()) return "";
  std::sort(distances.begin(), distances.end());
  distances.erase(std::unique(distances.begin(), distances.end()), distances.end());
  std::string out =
      headline(fmt::format("recall   right answers, %, to one fact told so many tokens back; {} questions "
                           "each{}",
                           word_at(recall, "questions"), none ? "; n/a: Full itself is right on fewer than 90 %" : ""),
               style);
  // Distances that find no room beside each other stand below.
  std::size_t wide = 0;
  for (const std::string& name : names) wide = std::max(wide, name.size());
  constexpr std::size_t cell_room = 7;
  const auto width = static_cast<std::size_t>(std::max(style.width, 1));
  const std::size_t together = std::max<std::size_t>(1, width > wide ? (width - wide) / cell_room : 1);
  for (std::size_t from = 0; from < distances.size(); from += together) {
    const std::size_t to = std::min(from + together, distances.size());
    text_table table(style.width);
    std::vector<std::string> titles{""};
    for (std::size_t d = from; d < to; ++d) titles.push_back(fmt::format("{:>5}", distances[d]));
    table.title(std::move(titles));
    for (const std::string& name : names) {
      std::vector<std::string> line{name};
      bool asked = false;
      for (std::size_t d = from; d < to; ++d) {
        std::string text;
        for (const report_json* cell : cells)
          if (bounded(number_at(*cell, "distance")) == distances[d] && name_of(*cell) == name)
            text = is_true(*cell, "not_applicable") ? "n/a" : number_or_dash(number_at(*cell, "share"), 0, 100);
        asked = asked || !text.empty();
        line.push_back(std::move(text));
      }
      if (asked) table.line(std::move(line));
    }
    out += (from > 0 ? "\n" : "") + table.str(to - from + 1, false);
  }
  return out;
}

std::string prompt_modes_text(const report_json& modes, const text_style& style) {
  std::vector<std::string> names, ways;
  for (const report_json& entry : modes) {
    for (auto [to, text] : {std::pair(&names, entry_name(entry)), std::pair(&ways, printable(word_at(entry, "mode")))})
      if (std::find(to->begin(), to->end(), text) == to->end()) to->push_back(text);
  }
  if (names.empty()) return "";
  text_table table(style.width);
  std::vector<std::string> titles{""};
  titles.insert(titles.end(), ways.begin(), ways.end());
  table.title(std::move(titles));
  for (const std::string& name : names) {
    std::vector<std::string> line{name};
    for (const std::string& way : ways) {
      std::string cell = "-";
      for (const report_json& entry : modes)
        if (entry_name(entry) == name && word_at(entry, "mode") == way)
          cell = number_or_dash(number_at(entry, "nll_minus_full"), 4);
      line.push_back(std::move(cell));
    }
    table.line(std::move(line));
  }
  return headline(
             fmt::format("prompt   {} tokens read in different ways, as many scored after it: NLL-Full, nats/token",
                         word_at(modes[0], "prompt_tokens")),
             style) +
         table.str(ways.size() + 1, false);
}

std::string free_run_text(const report_json& run, const text_style& style) {
  if (list_at(run, "rows").empty()) return "";
  text_table table(style.width);
  table.title({"", "unlike Full", "repeated, %", "NLL of Full"});
  for (const report_json& entry : list_at(run, "rows")) {
    const report_json& apart = field(entry, "first_divergence");
    table.line({entry_name(entry), apart.is_null() ? "never" : "at " + text_of(apart),
                number_or_dash(number_at(entry, "repeated_4grams"), 1, 100),
                number_or_dash(number_at(entry, "nll_under_full"), 3)});
  }
  return headline(fmt::format("free     {} tokens written after {} of the text; shown, not ranked",
                              word_at(run, "tokens"), word_at(run, "prompt_tokens")),
                  style) +
         table.str(4, false);
}

std::string time_text(const report_json& time, const text_style& style) {
  if (list_at(time, "rows").empty()) return "";
  text_table table(style.width);
  table.title({"", "tokens/s", "(low-high)", "attention", "policy", "rest"});
  for (const report_json& entry : list_at(time, "rows")) {
    const report_json& rate = field(entry, "tokens_per_second");
    const auto whole_number = [&](const char* key) { return number_or_dash(number_at(rate, key), 0); };
    const auto part = [&](const char* key) { return number_or_dash(number_at(entry, key), 2); };
    table.line({entry_name(entry), whole_number("median"),
                fmt::format("({}-{})", whole_number("low"), whole_number("high")), part("attention_us"),
                part("policy_us"), part("rest_us")});
  }
  return headline(fmt::format("time     median of {} rounds (lowest-highest), {} thread{}, tokens from {} on; "
                              "microseconds a token",
                              word_at(time, "rounds"), word_at(time, "threads"), field(time, "threads") == 1 ? "" : "s",
                              word_at(time, "from")),
                  style) +
         table.str(6, false);
}

std::string against_text(const report_json& other, const text_style& style) {
  if (!other.is_object()) return "";
  constexpr std::size_t most = 60;  // of a word that another file holds
  const auto word = [&](const char* key) { return printable(multistate::detail::cut_text(word_at(other, key), most)); };
  std::string out = headline(fmt::format("against  {} ({}, {}): states kept alike, percent",
                                         printable(word_at(other, "path")), word("simd_target"), word("format")),
                             style);
  text_table table(style.width);
  for (const report_json& entry : list_at(other, "rows"))
    table.line({entry_name(entry), number_or_dash(number_at(entry, "alike"), 1, 100)});
  return out + (list_at(other, "rows").empty() ? "no policy that it traced is here\n" : table.str(2, false));
}

std::string notes_text(const report_json& json, const text_style& style) {
  std::string out;
  for (const report_json& note : list_at(json, "notes"))
    out += wrapped("note: " + printable(text_of(note)), style.width, 6);
  return out;
}

std::string finding_text(const report_json& json, const text_style& style) {
  const verdict found = verdict_of(json);
  std::string out;
  for (const sentence* s : {&found.interrupted, &found.cost, &found.recall})
    if (!s->empty()) out += wrapped(printable(plain(*s)), style.width);
  return out;
}

std::string report_text(const report& r, const report_json& json, const text_style& style,
                        std::span<const std::string> written) {
  std::string out = header_text(r, style) + "\n" + table_text(json, style);
  for (const std::string& part :
       {recall_text(field(json, "recall"), style), prompt_modes_text(list_at(json, "prompt_modes"), style),
        free_run_text(field(json, "free_run"), style), time_text(field(json, "time"), style),
        against_text(field(json, "against"), style), notes_text(json, style), finding_text(json, style)})
    if (!part.empty()) out += "\n" + part;
  if (!written.empty()) out += "\n";
  for (const std::string& path : written) out += "wrote " + printable(path) + "\n";
  return out;
}

}  // namespace multistate::tools
