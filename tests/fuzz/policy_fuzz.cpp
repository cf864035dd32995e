// Policy strings: what parses prints back to a string that parses to the same, and runs.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include <multistate/policies.hpp>
#include <multistate/policy/registry.hpp>

namespace {

using namespace multistate;

/// The library's own, and one whose settings are numbers.
struct fading {
  static constexpr std::string_view name = "fading";
  constexpr evidence wants() const { return {}; }
  int budget = 0;
  scope_kind scope = scope_kind::layer;
  float decay = 0.9f;
  double floor = 0;
  static constexpr auto options =
      std::tuple{policy_option{"decay", &fading::decay}, policy_option{"floor", &fading::floor}};
  constexpr const char* check(int) const { return nullptr; }
  constexpr protect keeps(int) const { return {}; }
};
using any = any_policy<registry<full, window, h2o, tova, multistate::random_choice, knorm, fading>>;

void promise(bool kept) {
  if (!kept) std::abort();
}

template <policy P>
void run(const P& settings) {
  const int layers = settings.scope == scope_kind::model ? 2 : 1;
  auto made = decider<P>::make(settings, {.kv_heads = 2, .layer = 0, .layers = layers});
  if (!made) return;
  decider<P>& d = *made;
  const float row[9] = {.1f, .2f, .05f, .3f, .1f, .1f, .1f, .05f, .2f}, key[2] = {1, 2};
  for (int t = 0; t < (has_no_budget<P> ? 4 : 8); ++t) {
    d.append(1);
    for (int layer = 0; layer < layers; ++layer)
      for (int h = 0; h < 2; ++h) {
        d.enter(d.lane_of(h), 0, key, key, key);
        d.observe(d.lane_of(h), {.data = row, .n = d.live(d.lane_of(h))});
      }
    promise(d.reduce().fault == fault_kind::none);
    for (int lane = 0; lane < d.lanes(); ++lane) promise(d.live(lane) <= d.budget(lane));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  std::string joined;
  for (const std::string& item : split_policies(text)) {
    joined += (joined.empty() ? "" : ",") + item;
    const auto p = any::parse(item);
    if (!p) {
      promise(!p.reason().message().empty());
      continue;
    }
    promise(!item.ends_with(','));
    const std::string printed = p->str();
    const auto again = any::parse(printed);
    promise(static_cast<bool>(again) && again->str() == printed && again->budget() == p->budget());
    if (const auto small = p->with_budget(4)) small->visit([](const auto& settings) { run(settings); });
  }
  promise(joined == text || text.starts_with(','));  // nothing is lost between the items
  return 0;
}
