#pragma once

#include <string>
#include <vector>

#include <tools/report/markup.hpp>
#include <tools/report/reading.hpp>

namespace multistate::tools {

/// A piece of a sentence that is said in text and on a page.
struct phrase {
  enum class kind : unsigned char { words, name, number };
  kind said_as = kind::words;
  std::string text = {};  ///< plain
};
using sentence = std::vector<phrase>;

std::string plain(const sentence& s);
markup to_markup(const sentence& s);

/// What was found, in sentences made from the data; an empty one is not said.
struct verdict {
  sentence interrupted;  ///< what a part is worth
  sentence cost;         ///< which policy loses least and which most, at which budget
  sentence recall;       ///< whether facts told further back than the budget are remembered
};

/// Speaks of the smallest budget that serves some policy well, else of the largest. It names a best group only where
/// letters say which can't be told apart and 30 windows stand behind them. Full, random, oracle and short compete with
/// nobody, and a budget that holds whole windows has forgotten nothing.
verdict verdict_of(const report_json& report);

}  // namespace multistate::tools
