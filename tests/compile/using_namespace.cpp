// One-word names of the library beside those that POSIX and the standard library have without a namespace.
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include <multistate/policies.hpp>

using namespace multistate;

namespace {

random_choice baseline{.budget = 4, .seed = 3};
slot_move back{parked, no_slot};
policy_option seed_option{"seed", &random_choice::seed};
shape dims{.heads = 2, .kv_heads = 2, .dk = 8, .dv = 8};
rows row_of{};
error fine;

template <class Policy>
int drop_from(const Policy& settings) {
  auto made = decider<Policy>::make(settings, placement{.kv_heads = dims.kv_heads}, limits{});
  if (!made) return static_cast<int>(made.code());
  const decision& done = made->append(1, phase::decode);
  const lane_decision& lane = done.lanes[0];
  return static_cast<int>(index(lane.moves.empty() ? slot{} : lane.moves[0].to)) + lane.live;
}

}  // namespace

int main() {
  std::array<float, 2> sum{}, row{1.0f, 2.0f};
  fold(sum, row, true);
  return drop_from(baseline) + drop_from(full{.budget = 4}) + drop_from(window{.budget = 4}) +
         drop_from(h2o{.budget = 4}) + drop_from(tova{.budget = 4}) + static_cast<int>(mix(seed_option.key.size())) +
         static_cast<int>(index(back.from)) + row_of.n + (fine ? 1 : 0);
}
