// Saves of deciders and states, changed by the fuzzer: what is refused changes nothing, what loads goes on and keeps
// its promises. Bytes 0 to 2 choose policy, tokens before and limits; then come edits of three bytes.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include <multistate/policies.hpp>
#include <multistate/state/multi_state.hpp>

namespace {

using namespace multistate;
using bytes = std::vector<std::byte>;
using states_type = multi_state<i8, f16>;

constexpr shape dims{2, 2, 3, 2};
const float row[64] = {.1f, .3f, .2f, .5f, .05f, .1f, .2f, .3f, .1f}, numbers[8] = {1, 2, 3, 4};

void promise(bool kept) {
  if (!kept) std::abort();
}

template <class T>
bytes saved(const T& x) {
  bytes file(x.save_bytes());
  x.save(file);
  return file;
}

/// Each edit: where (two bytes, of which the upper bits cut or append), and what.
bytes edited(bytes file, std::span<const std::uint8_t> edits) {
  for (; edits.size() >= 3; edits = edits.subspan(3)) {
    const std::size_t at = edits[0] | std::size_t{edits[1] & 3u} << 8;
    if (at < file.size()) file[at] = std::byte{edits[2]};
    if ((edits[1] & 0x80) != 0) file.resize(std::min(file.size(), at));
    if ((edits[1] & 0x40) != 0) file.resize(file.size() + (edits[2] & 15u), std::byte{1});
  }
  return file;
}

/// One token; states follow where there are some.
template <policy P>
void token(decider<P>& d, states_type* states) {
  d.append(1);
  if (states != nullptr && !states->apply(d.last())) states = nullptr;
  for (int h = 0; h < 2; ++h) {
    const int lane = d.lane_of(h);
    if (states != nullptr) states->write(h, d.slots(lane), numbers, numbers, 3, 2);
    d.enter(lane, 0, {numbers, 3}, {numbers, 2}, {numbers, 3});
    d.observe(lane, {.data = row, .n = d.live(lane)});
  }
  promise(d.reduce().fault == fault_kind::none);
  if (states != nullptr) promise(states->apply(d.last()));
}

template <policy P>
void check(const decider<P>& d) {
  for (int lane = 0; lane < d.lanes(); ++lane) {
    promise(d.live(lane) <= d.budget(lane) + d.room().slack());
    const auto positions = d.positions(lane);
    slot order[64];
    const std::size_t live = d.rank_order(lane, order);
    promise(live == static_cast<std::size_t>(d.live(lane)));
    position last = -1;
    for (std::size_t rank = 0; rank < live; ++rank) {
      promise(index(order[rank]) < positions.size() && positions[index(order[rank])] > last);
      last = positions[index(order[rank])];
    }
  }
}

template <policy P>
void run(P settings, const limits& room, int before, std::span<const std::uint8_t> edits) {
  settings.budget = 5;
  const auto make = [&] { return std::move(*decider<P>::make(settings, {.kv_heads = 2}, room)); };
  auto d = make(), e = make();
  const auto make_states = [&] { return std::move(*states_type::make(dims, d.plan())); };
  auto states = make_states();
  for (int t = 0; t < before; ++t) token(d, &states);
  if (before > 3) d.pin(before - 2, before);

  if (e.load(edited(saved(d), edits)).code() != errc::ok) {
    promise(saved(e) == saved(make()));
  } else {
    auto again = make();
    promise(again.load(saved(e)).code() == errc::ok && saved(again) == saved(e));
    auto other = make_states();
    const bool same = other.load(saved(states), e.last()).code() == errc::ok;
    promise(same == states.executed(e.moment()) || e.moment() == 0);
    for (int t = 0; t < 20; ++t) token(e, nullptr), check(e);
    if (room.undo > 0) (void)e.undo(1);
    auto next = std::move(*decider<tova>::make({.budget = 5, .scope = settings.scope}, {.kv_heads = 2}));
    (void)next.take_over(e);
    check(next);
  }

  auto other = make_states();
  const bytes file = edited(saved(states), edits);
  if (other.load(file).code() != errc::ok) {
    promise(saved(other) == saved(make_states()));
  } else {
    promise(saved(other) == file);
    for (int h = 0; h < 2; ++h) promise(other.live(h) <= other.capacity(h)), (void)other.finite(h);
    auto copy = make_states();
    promise(copy.copy_from(other));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return 0;
  const limits room{
      .chunk = 1 + data[2] % 3, .hold = 0, .undo = (data[2] & 8) != 0 ? 2 : 0, .every = 1 + (data[2] >> 4) % 3};
  const int before = data[1] % 40;
  const auto scope = (data[0] & 8) != 0 ? scope_kind::head : scope_kind::layer;
  const std::span<const std::uint8_t> edits(data + 3, size - 3);
  switch (data[0] % 6) {
    case 0:
      run(window{.scope = scope, .sinks = 2}, room, before, edits);
      break;
    case 1:
      run(tova{.scope = scope, .pinned = 1}, room, before, edits);
      break;
    case 2:
      run(h2o{.scope = scope, .normalised = true}, room, before, edits);
      break;
    case 3:
      run(knorm{.scope = scope}, room, before, edits);
      break;
    case 4:
      run(multistate::random_choice{.scope = scope}, room, before, edits);
      break;
    default:
      run(h2o{.scope = scope, .recent = 0}, room, before, edits);
      break;
  }
  return 0;
}
