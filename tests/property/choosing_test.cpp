// What policies keep, by their strings, against naive_choosing over random rows: every scope, mix, quota and sharing;
// prompts at once and in chunks, held tokens, undo, forks and saves.

#include <multistate/decider/any_decider.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include <support/naive_choosing.hpp>
#include <support/random.hpp>

using namespace multistate;

namespace {

using support::choosing_spec;
using support::generator;
using support::naive_choosing;

/// One side of a policy, as text and as numbers.
choosing_spec random_side(generator& g, const std::string& name, int budget, bool mixes, bool prompt,
                          std::string& text) {
  choosing_spec s{.name = name};
  const auto add = [&](const std::string& key, const auto& value) { text += "," + key + "=" + value; };
  if (name == "tova" && g.chance(40)) add("newest", std::to_string(s.newest = g.between(0, budget)));
  if (name == "h2o" || name == "a2sf") {
    s.newest = -1;
    if (g.chance(60)) add("recent", std::to_string(s.newest = g.between(0, budget)));
    if (name == "h2o" && g.chance(40)) s.normalised = true, add("normalised", "true");
    if (name == "a2sf") s.decay = 0.75, add("decay", "0.75");
  }
  if (name == "snapkv") {
    add("window", std::to_string(s.newest = g.between(1, budget)));
    add("kernel", std::to_string(s.kernel = g.one_of(std::vector<int>{1, 3, 5})));
  }
  if (name == "window") return s;
  if (mixes) {
    s.mix = g.one_of(std::vector<std::string>{"mean", "max", "zmean", "zmax"});
    if (s.mix != "mean") add("mix", s.mix);
  }
  if (!prompt && g.chance(25)) add("every", std::to_string(s.every = g.between(1, 4)));
  if (budget >= 4 && g.chance(30)) {
    s.segments = g.between(1, 2);
    s.quota = g.between(1, 2);
    add("segments", std::to_string(s.segments));
    add("quota", std::to_string(s.quota));
  }
  return s;
}

double weight_of(std::uint64_t salt, int h, std::int64_t t, std::int64_t p) {
  const std::uint64_t x = mix(salt ^ mix(static_cast<std::uint64_t>(h) << 40 ^ static_cast<std::uint64_t>(t) << 20 ^
                                         static_cast<std::uint64_t>(p)));
  const double u = static_cast<double>(x >> 40) / 16777216.0;
  return u * u;
}

std::vector<position> kept_of(const any_decider& d, int lane) {
  std::vector<position> kept;
  for (const position p : d.positions(lane))
    if (p >= 0) kept.push_back(p);
  std::sort(kept.begin(), kept.end());
  return kept;
}

/// Hands all rows of a cycle to the decider: one by one, or the sums that they have.
void observe(any_decider& d, std::uint64_t salt, int layers, int group, int kv_heads, int c, position first) {
  for (int layer = 0; layer < layers; ++layer)
    for (int kv = 0; kv < kv_heads; ++kv) {
      const int lane = d.lane_of(kv), n = d.live(lane);
      const auto stride = to_size(n) + 3, plane = stride * to_size(c);
      std::vector<float> floats(plane * to_size(d.heads_apart() ? group : 1), 0.0f);
      for (int g = 0; g < group; ++g)
        for (int j = 0; j < c; ++j)
          for (std::size_t s = 0; s < to_size(n); ++s)
            if (const position p = d.positions(lane)[s]; p >= 0 && p <= first + j)
              floats[(d.heads_apart() ? to_size(g) * plane : 0) + to_size(j) * stride + s] +=
                  static_cast<float>(weight_of(salt, layer * kv_heads * group + kv * group + g, first + j, p));
      d.observe(lane, {.data = floats.data(),
                       .stride = stride,
                       .n = n,
                       .queries = c,
                       .heads = group,
                       .kind = rows_kind::each,
                       .head_stride = d.heads_apart() ? plane : 0});
    }
}

int compared = 0;

void one_program(generator& g) {
  const std::string scopes[] = {"head", "layer", "model", "model_head"};
  const int scope = g.between(0, 3), kv_heads = g.between(1, 3), group = g.between(1, 3);
  const int layers = scope >= 2 ? g.between(1, 2) : 1, budget = g.between(1, 9);
  const bool mixes = g.chance(50), pair = g.chance(50);
  std::string text, right;
  naive_choosing slow;
  slow.pair = pair;
  const std::string name = g.one_of(std::vector<std::string>{"tova", "h2o", "a2sf"});
  if (pair) {
    const std::string prompt = g.one_of(std::vector<std::string>{"snapkv", "observed", "tova", "snapkv"});
    slow.prompt = random_side(g, prompt, budget, mixes, true, text);
    if (scope % 3 == 0 && g.chance(50)) {
      slow.prompt.adaptive = true;
      text += ",heads=adaptive,floor=" + std::string(g.chance(50) ? "0.5" : "0.2");
      slow.prompt.floor = text.back() == '5' ? 0.5 : 0.2;
    }
    text = prompt + ":" + std::to_string(budget) + ",scope=" + scopes[scope] + text;
    const std::string then = prompt == "observed" && name == "a2sf" ? "tova" : g.chance(15) ? "window" : name;
    slow.decode = random_side(g, then, budget, mixes, false, right);
    text += "/" + then + right;
  } else {
    slow.decode = random_side(g, name, budget, mixes, false, text);
    text = name + ":" + std::to_string(budget) + ",scope=" + scopes[scope] + text;
  }
  SCOPED_TRACE(text);
  auto policy = parse_policy(entries_of(standard_policies()), text);
  ASSERT_TRUE(policy) << policy.reason().message();
  ASSERT_EQ(parse_policy(entries_of(standard_policies()), policy->str())->str(), policy->str());

  const placement where{.kv_heads = kv_heads, .layers = layers, .heads = kv_heads * group};
  const bool undoes = g.chance(40);
  const limits room{.chunk = 6, .hold = undoes ? 4 : 0, .undo = undoes ? 6 : 0, .prompt = 25};
  auto made = policy->make_decider(where, room), other = policy->make_decider(where, room);
  ASSERT_TRUE(made) << made.reason().message();
  any_decider d = std::move(*made);

  slow.budget = budget;
  slow.group = group;
  slow.mean_of_layers = scope == 3;
  for (int lane = 0; lane < d.lanes(); ++lane) {
    slow.lanes.push_back({.heads = {}, .budget = budget, .kept = {}, .sum = {}});
    for (int layer = 0; layer < layers; ++layer)
      for (int h = 0; h < kv_heads * group; ++h)
        if (d.lane_of(h / group) == lane) slow.lanes.back().heads.push_back(layer * kv_heads * group + h);
  }
  const std::uint64_t salt = g.next();
  const auto weight = [&](int h, std::int64_t t, std::int64_t p) { return weight_of(salt, h, t, p); };

  const auto call = [&](int c, int accepted, phase when, bool held) {
    const bool one_shot = c > room.chunk;
    const position first = d.next_position();
    d.append(c, when, held);
    observe(d, salt, layers, group, kv_heads, c, first);
    d.reduce(held ? accepted : -1);
    ASSERT_EQ(d.fault(), fault_kind::none) << message(d.fault());
    slow.feed(weight, c, accepted,
              when == phase::decode   ? naive_choosing::decoding
              : when == phase::prompt ? naive_choosing::in_prompt
                                      : naive_choosing::prompt_ends,
              one_shot);
  };
  const auto same = [&] {
    if (slow.margin < 2e-5) return;
    for (int lane = 0; lane < d.lanes(); ++lane) {
      ASSERT_EQ(kept_of(d, lane), slow.lanes[to_size(lane)].kept) << "lane " << lane << " after " << d.next_position();
      ASSERT_EQ(d.budget(lane), slow.lanes[to_size(lane)].budget);
      ++compared;
    }
  };

  if (g.chance(60)) {
    const int c = g.between(7, 25);
    call(c, c, phase::prompt_end, false);
  } else if (!pair || slow.prompt.name != "observed") {
    for (int chunks = g.between(0, 4); chunks > 0; --chunks) {
      const int c = g.between(1, 6);
      call(c, c, chunks == 1 ? phase::prompt_end : phase::prompt, false);
      same();
    }
  }
  for (int calls = 20; calls > 0 && !testing::Test::HasFailure() && slow.margin >= 2e-5; --calls) {
    if (undoes && g.chance(25)) {  // there and back
      const naive_choosing before = slow;
      const int c = g.between(1, 3);
      call(c, c, phase::decode, false);
      ASSERT_TRUE(d.undo(c));
      slow = before;
    } else if (g.chance(10)) {
      ASSERT_TRUE(other->copy_from(d));
      std::swap(d, *other);
    } else if (g.chance(10)) {
      std::vector<std::byte> file(d.save_bytes()), again(d.save_bytes());
      d.save(file);
      ASSERT_EQ(other->load(file).message(), "");
      std::swap(d, *other);
      d.save(again);
      ASSERT_EQ(file, again);
    } else if (undoes && g.chance(30)) {
      const int c = g.between(1, 4);
      call(c, g.between(0, c), phase::decode, true);
    } else {
      const int c = g.between(1, 3);
      call(c, c, phase::decode, false);
    }
    same();
  }
}

TEST(choosing, keeps_what_the_descriptions_say) {
  const int count = support::rounds(4000);
  for (int i = 0; i < count && !HasFailure(); ++i) {
    const support::round_seed round{support::base_seed(), i};
    SCOPED_TRACE(round.text());
    generator g = round.make(77);
    one_program(g);
  }
  EXPECT_GT(compared, count * 10) << "too many near-ties to mean anything";
}

}  // namespace
