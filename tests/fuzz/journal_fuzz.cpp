// A journal as it lies on disk, and its records where their hashes are right: whatever they say is refused, or is a
// window that a run could have had.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <tools/runs/journal.hpp>
#include <tools/runs/totals_json.hpp>

namespace {

using namespace multistate;
using namespace multistate::tools;

constexpr std::uint64_t settings = 7;

void promise(bool kept) {
  if (!kept) std::abort();
}

/// Null where it is refused.
bool read(std::string_view text, journal_contents& into) {
  try {
    into = read_journal(text, settings);
    return true;
  } catch (const bad_record&) {
    return false;
  }
}

void check_text(std::string_view text) {
  journal_contents all, again;
  if (!read(text, all)) return;
  promise(all.whole <= text.size());
  promise(read(text.substr(0, all.whole), again) && again.whole == all.whole && again.records == all.records);
}

void check_window(const nlohmann::ordered_json& record) {
  // 20 queries, scored from 18 on, one lane, two ages.
  const window_shape shape{.queries = 20, .scored = 2, .steps = 20, .states = 20, .ages = 2, .deaths = 20};
  totals::window_sums w;
  try {
    w = window_sums_from(record, shape);
  } catch (const std::exception&) {
    return;
  }
  totals t;
  t.go_on(window_sums_from(to_json(w), shape));
  promise(to_json(t.window()) == to_json(w));
  t.end_window();
  const std::vector<int> ages{0, 1};
  const figures f = totals::sum_up(std::span(&t, 1), 1, true, ages);
  promise(std::isfinite(f.nll) && std::isfinite(f.nll_minus_full) && f.kl_mean && std::isfinite(*f.kl_mean));
  promise(f.survival.size() <= 2 && f.deaths.size() == 20);
  for (const auto& point : f.survival) promise(point.alive >= 0 && point.alive <= 1);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check_text(text);
  std::string forged = journal_head(settings);
  for (std::size_t at = 0; at < text.size();) {
    const std::string_view body = text.substr(at, text.find('\n', at) - at);
    forged += hash_text(hash_bytes(std::as_bytes(std::span(body)))) + " " + std::string(body) + "\n";
    at += body.size() + 1;
  }
  check_text(forged);
  journal_contents records;
  if (read(forged, records))
    for (const auto& [name, record] : records.records) check_window(record);
  return 0;
}
