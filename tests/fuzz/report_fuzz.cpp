// JSON of strangers on its way into a page, a table and a comparison with another build: whatever it holds, the page is
// whole, nothing of it becomes markup, and shares are shares.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include <tools/report/html_report.hpp>
#include <tools/report/report.hpp>
#include <tools/report/text.hpp>
#include <tools/report/trace.hpp>

namespace {

using namespace multistate::tools;

void promise(bool kept) {
  if (!kept) std::abort();
}

/// As deep as files may be nested.
bool shallow(std::string_view text) {
  int depth = 0;
  for (const char c : text)
    if ((c == '[' || c == '{') && ++depth > 64) return false;
  return true;
}

std::size_t count(std::string_view text, std::string_view wanted) {
  std::size_t n = 0;
  for (std::size_t at = 0; (at = text.find(wanted, at)) != text.npos; at += wanted.size()) ++n;
  return n;
}

const report_json& ours() {
  static const report_json j = report_json::parse(
      R"({"trace":{"tokens":[256,84,104,101],"rows":[{"policy":"tova","budget":2,"layers":[[[3,3,4,4]],[[2,4,4,4]]]}]}})");
  return j;
}

void look(const report_json& j) {
  const std::string page = to_html(j);
  promise(page.starts_with("<!DOCTYPE html>") && page.ends_with("</script>\n</body></html>\n"));
  const std::size_t data = page.find("<script type=\"application/json\" id=\"data\">");
  const std::size_t scripts = data == page.npos ? 1 : 2;
  promise(count(page, "<script") == scripts && count(page, "</script") == scripts);
  promise(count(page, "<style") == 1 && count(page, "<meta http-equiv") == 1);
  promise(count(page, "<!--") == 0 && count(page, "<img") == 0 && count(page, " style=\"") == 0);
  if (data != page.npos) {
    const std::size_t from = page.find('>', data) + 1;
    promise(report_json::accept(page.substr(from, page.find("</script", from) - from)));
  }
  to_csv(j);
  for (const std::string& text :
       {table_text(j), recall_text(field(j, "recall")), prompt_modes_text(list_at(j, "prompt_modes")),
        free_run_text(field(j, "free_run")), time_text(field(j, "time")), against_text(field(j, "against")),
        notes_text(j), finding_text(j)})
    promise(text.find('\033') == text.npos);
  for (const report_json* theirs : {&j, &ours()})
    for (const report_json* mine : {&j, &ours()})
      for (const report_json& row : alike_in_both(*mine, *theirs)) {
        const double alike = number_at(row, "alike");
        promise(alike >= 0 && alike <= 1 && row.at("policy").is_string());
      }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  constexpr std::size_t most = 1 << 16;  // more is only slower
  if (size > most || !shallow(text)) return 0;
  const report_json j = report_json::parse(text, nullptr, false);
  if (!j.is_discarded()) look(j);
  return 0;
}
