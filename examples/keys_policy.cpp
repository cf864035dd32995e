// A policy of one's own that reads keys, remembers something of each lane and acts at a time of its own, beside the
// library's: for instance
//   keys_policy --policies unusual,keydiff,tova --budgets 32,64
#include <multistate/tools/programs.hpp>

#include <cmath>

using namespace multistate;

/// Every `every` tokens drops the states whose keys point where keys have pointed so far, in this round and, counting
/// half as much each time, in those before: also where states of these have been dropped since.
struct unusual {
  static constexpr std::string_view name = "unusual";
  int budget = 0;
  scope_kind scope = scope_kind::head;
  int every = 32;
  static constexpr auto options =
      std::tuple{policy_option{"scope", &unusual::scope}, policy_option{"every", &unusual::every}};

  constexpr evidence wants(const shape& lane = {}) const {
    return {.stored_keys = true, .lane_numbers = lane.kv_heads * lane.dk};
  }
  constexpr const char* check(int lane_budget) const {
    return every >= 1 && lane_budget >= 4 ? nullptr : "every >= 1 and budget >= 4";
  }
  constexpr protect keeps(int) const { return {4, 0}; }
  int room() const noexcept { return every - 1; }
  bool due(const moment& m) const noexcept { return m.n >= m.budget + every; }

  std::span<const float> worth(const lane_ref& lane, const rows&) const noexcept {
    const std::size_t n = lane.positions.size(), d = to_size(lane.states->lane.dk);
    for (float& w : lane.scratch) w = 0;
    for (int head = 0; head < lane.states->lane.kv_heads; ++head) {
      const std::span<float> usual = lane.numbers.subspan(to_size(head) * d, d);
      for (float& x : usual) x /= 2;
      for (std::size_t s = 0; s < n; ++s) {
        const std::span<const float> key = lane.key(head, slot(static_cast<std::uint32_t>(s)));
        for (std::size_t i = 0; i < d; ++i) usual[i] += key[i] / static_cast<float>(2 * n);
      }
      for (std::size_t s = 0; s < n; ++s) {
        float dot = 0, square = 1e-12f;
        for (std::size_t i = 0; const float x : lane.key(head, slot(static_cast<std::uint32_t>(s)))) {
          square += x * x;
          dot += x * usual[i++];
        }
        lane.scratch[s] -= dot / std::sqrt(square);
      }
    }
    return lane.scratch;
  }
};
static_assert(diagnose_policy<unusual>());

int main(int argc, char** argv) { return compare_main<unusual>(argc, argv); }
