#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include <multistate/model/decoder.hpp>
#include <multistate/model/packed_weights.hpp>
#include <multistate/memory/memory.hpp>
#include <multistate/policies.hpp>
#include <support/allocations.hpp>
#include <unit/model/memories.hpp>
#include <unit/model/models.hpp>

namespace {

using namespace multistate;
using support::expect_same_states;
using support::feed;
using support::furthest;
using support::kept;
using support::random_ids;
using support::random_model;

TEST(decoder, each_layer_has_a_policy_of_its_own) {
  const model_weights m = random_model({.layers = 3});
  const std::vector<int> ids = random_ids(30, m.config.vocab);
  const memory_setup setup = setup_for(m.config);
  std::vector<std::unique_ptr<layer_memory>> parts;
  parts.push_back(make_layer_memory(full{.budget = 30}, setup, 0).value());
  parts.push_back(make_layer_memory(window{.budget = 5}, setup, 1).value());
  parts.push_back(make_layer_memory<bf16>(tova{.budget = 9, .scope = scope_kind::head}, setup, 2).value());
  auto memory = sequence_memory::make(std::move(parts)).value();
  auto d = decoder<>::make(m, 30).value();
  feed(d, memory, ids, 30, attend_mode::one_by_one);
  EXPECT_EQ(memory.live(0, 0), 30);
  EXPECT_EQ(kept(memory, 1, 0), (std::vector<position>{25, 26, 27, 28, 29}));
  EXPECT_EQ(memory.lanes(2), 2);
  EXPECT_EQ(memory.live(2, 0), 9);
  EXPECT_EQ(memory.live(2, 1), 9);
}

/// Memories of many kinds, for a batch.
std::vector<sequence_memory> many(const model_config& c) {
  const limits room{.chunk = 4, .prompt = 20};
  std::vector<sequence_memory> all;
  all.push_back(make_memory(full{.budget = 60}, setup_for(c, room)).value());
  for (const auto& make : support::memory_kinds())
    all.push_back(make(c, room, static_cast<position_mode>(all.size() % 3)));
  return all;
}

TEST(decoder, a_batch_gives_what_its_sequences_give_alone_for_any_number_of_threads) {
  const model_weights m = random_model({.hidden = 33, .ffn = 75, .vocab = 70});
  const std::size_t vocab = multistate::to_size(m.config.vocab);
  constexpr std::size_t tokens = 40;
  support::threads three{3}, five{5};
  auto alone = decoder<>::make(m, 30).value();
  std::vector<std::vector<float>> expected;
  auto memories = many(m.config);
  std::vector<std::vector<int>> ids;
  const auto count = [](std::size_t i, std::size_t done) -> std::size_t {
    return done == 0 ? i * 3 % 20 + 1 : (i + done) % 3 == 0 ? 3 : 1;
  };
  const auto item_of = [&](std::size_t i, std::size_t done, sequence_memory& memory, float* to) {
    batch_item item;
    item.memory = &memory;
    item.tokens = std::span(ids[i]).subspan(done, std::min(count(i, done), tokens - done));
    item.mode = done == 0 ? attend_mode::one_shot : attend_mode::together;
    item.want = logit_rows::all;
    item.logits = to + done * vocab;
    return item;
  };
  for (std::size_t i = 0; i < memories.size(); ++i) {
    ids.push_back(random_ids(tokens, m.config.vocab, i + 1));
    expected.emplace_back(tokens * vocab);
    for (std::size_t done = 0; done < tokens;) {
      const batch_item item = item_of(i, done, memories[i], expected[i].data());
      ASSERT_EQ(alone.forward({&item, 1}).message(), "");
      done += item.tokens.size();
    }
  }
  const auto together = [&](auto& d) {
    auto others = many(m.config);
    std::vector<std::vector<float>> got(others.size(), std::vector<float>(tokens * vocab));
    std::vector<std::size_t> done(others.size(), 0);
    for (bool more = true; more;) {
      std::vector<batch_item> batch;
      more = false;
      for (std::size_t i = 0; i < others.size(); ++i) {
        if (done[i] == tokens) continue;
        batch.push_back(item_of(i, done[i], others[i], got[i].data()));
        done[i] += batch.back().tokens.size();
        more = more || done[i] < tokens;
      }
      if (batch.empty()) break;
      const error e = d.forward(batch);
      ASSERT_EQ(e.message(), "");
    }
    EXPECT_EQ(got, expected);
    for (std::size_t i = 0; i < others.size(); ++i) expect_same_states(others[i], memories[i]);
  };
  auto one_thread = decoder<>::make(m, 200).value();
  auto three_threads = decoder<support::threads>::make(m, 200, three).value();
  auto five_threads = decoder<support::threads>::make(m, 200, five).value();
  together(one_thread);
  together(three_threads);
  together(five_threads);
}

TEST(decoder, one_by_one_equals_calls_of_one_token) {
  const model_weights m = random_model({});
  const std::vector<int> ids = random_ids(40, m.config.vocab);
  auto d = decoder<>::make(m, 40).value();
  auto first = many(m.config), second = many(m.config), third = many(m.config);
  for (std::size_t i = 0; i < first.size(); ++i) {
    if (!first[i].one_by_one()) continue;
    const auto expected = feed(d, first[i], ids);
    EXPECT_EQ(feed(d, second[i], ids, 17, attend_mode::one_by_one), expected) << i;
    std::vector<float> logits(expected.size());
    ASSERT_EQ(d.prompt(third[i], ids, prompt_mode::sequential, 0, logit_rows::all, logits.data()).message(), "");
    EXPECT_EQ(logits, expected) << i;
    expect_same_states(first[i], second[i]);
    expect_same_states(first[i], third[i]);
  }
}

TEST(decoder, an_item_that_is_the_same_as_another_is_not_computed_again) {
  const model_weights m = random_model({});
  const std::vector<int> ids = random_ids(20, m.config.vocab);
  const std::size_t vocab = multistate::to_size(m.config.vocab);
  const auto make = [&] {
    std::vector<sequence_memory> all;
    all.push_back(make_memory(full{.budget = 20}, setup_for(m.config)).value());
    all.push_back(make_memory(tova{.budget = 7}, setup_for(m.config)).value());
    all.push_back(make_memory(h2o{.budget = 8}, setup_for(m.config)).value());
    all.push_back(make_memory(knorm{.budget = 7}, setup_for(m.config)).value());
    return all;
  };
  auto alone = make(), together = make();
  auto d = decoder<>::make(m, 20).value();
  support::threads three{3};
  auto narrow = decoder<support::threads>::make(m, 8, three).value();  // room for one of the four
  std::vector<batch_item> batch;
  for (sequence_memory& memory : together) batch.push_back({.memory = &memory, .tokens = std::span(ids).first(8)});
  for (batch_item& item : batch) item.mode = attend_mode::one_by_one;
  for (std::size_t i = 1; i < batch.size(); ++i) batch[i].same_as = 0;
  ASSERT_EQ(narrow.forward(batch).message(), "");
  for (std::size_t i = 0; i < alone.size(); ++i) {
    const auto expected = feed(d, alone[i], ids);
    std::vector<float> logits(12 * vocab);
    const batch_item rest{.memory = &together[i],
                          .tokens = std::span(ids).subspan(8),
                          .mode = attend_mode::one_by_one,
                          .want = logit_rows::all,
                          .logits = logits.data()};
    ASSERT_EQ(d.forward({&rest, 1}).message(), "");
    EXPECT_TRUE(std::equal(logits.begin(), logits.end(), expected.begin() + static_cast<std::ptrdiff_t>(8 * vocab)));
    expect_same_states(alone[i], together[i]);
  }
}

TEST(decoder, says_why_an_item_can_not_be_the_same_as_another) {
  const model_weights m = random_model({});
  const std::vector<int> ids = random_ids(4, m.config.vocab);
  auto first = make_memory(full{.budget = 9}, setup_for(m.config)).value();
  auto second = make_memory(tova{.budget = 4}, setup_for(m.config)).value();
  auto in_cache = make_memory(tova{.budget = 4}, setup_for(m.config, {}, position_mode::in_cache)).value();
  auto d = decoder<>::make(m, 6).value();
  const std::span<const int> some(ids);
  const auto message = [&](batch_item item) {
    const batch_item batch[] = {{.memory = &first, .tokens = some.first(1)}, item};
    return std::string(d.forward(batch).message());
  };
  std::vector<float> logits(multistate::to_size(m.config.vocab));
  EXPECT_EQ(message({.memory = &second, .tokens = some.first(1), .same_as = 1}),
            "batch item 1, the same as item 1: needs an item before it that is the same as none");
  EXPECT_EQ(message({.memory = &second, .tokens = some.subspan(1, 1), .same_as = 0}),
            "batch item 1, the same as item 0: needs the same tokens at the same positions");
  EXPECT_EQ(message({.memory = &in_cache, .tokens = some.first(1), .same_as = 0}),
            "batch item 1, the same as item 0: needs the same angles of keys");
  EXPECT_EQ(message({.memory = &second,
                     .tokens = some.first(1),
                     .want = logit_rows::last,
                     .logits = logits.data(),
                     .same_as = 0}),
            "batch item 1, the same as item 0: needs the same mode, token by token or in chunks, and wants no logits");
  EXPECT_EQ(first.next_position(), 0);
}

TEST(decoder, a_prompt_longer_than_the_budget_works_in_every_mode) {
  const model_weights m = random_model({});
  const std::vector<int> ids = random_ids(50, m.config.vocab), after = random_ids(5, m.config.vocab, 2);
  auto d = decoder<>::make(m, 50).value();
  for (const scope_kind scope : {scope_kind::head, scope_kind::layer, scope_kind::model})
    for (const prompt_mode mode : {prompt_mode::sequential, prompt_mode::chunked, prompt_mode::one_shot})
      for (const position_mode positions : {position_mode::original, position_mode::in_cache, position_mode::log}) {
        const limits room{.chunk = mode == prompt_mode::chunked ? 7 : 1,
                          .prompt = mode == prompt_mode::one_shot ? 50 : 0};
        auto memory = make_memory(h2o{.budget = 8, .scope = scope}, setup_for(m.config, room, positions)).value();
        std::vector<float> last(multistate::to_size(m.config.vocab), 0.0f), all(50 * last.size());
        ASSERT_EQ(d.prompt(memory, ids, mode, 7, logit_rows::last, last.data()).message(), "");
        for (int l = 0; l < memory.layers(); ++l)
          for (int lane = 0; lane < memory.lanes(l); ++lane) {
            EXPECT_EQ(memory.live(l, lane), 8);
            EXPECT_EQ(kept(memory, l, lane).back(), 49);
          }
        EXPECT_EQ(memory.next_position(), 50);
        const auto more = feed(d, memory, after);
        for (const float x : more) ASSERT_TRUE(std::isfinite(x));
        memory.reset();
        EXPECT_EQ(memory.next_position(), 0);
        EXPECT_EQ(memory.live_bytes(), 0u);
        ASSERT_EQ(d.prompt(memory, ids, mode, 7, logit_rows::all, all.data()).message(), "");
        EXPECT_TRUE(std::equal(last.begin(), last.end(), all.end() - static_cast<std::ptrdiff_t>(last.size())));
        EXPECT_EQ(feed(d, memory, after), more);
      }
}

TEST(decoder, chunks_equal_tokens_where_nothing_is_dropped) {
  const model_weights m = random_model({});
  const std::vector<int> ids = random_ids(40, m.config.vocab);
  auto d = decoder<>::make(m, 40).value();
  auto sequential = make_memory(tova{.budget = 40}, setup_for(m.config)).value();
  const auto expected = feed(d, sequential, ids);
  for (const int chunk : {2, 7, 40}) {
    auto memory = make_memory(tova{.budget = 40}, setup_for(m.config, {.chunk = chunk})).value();
    EXPECT_LT(furthest(feed(d, memory, ids, multistate::to_size(chunk)), expected), 1e-5) << chunk;
  }
  auto memory = make_memory(tova{.budget = 40}, setup_for(m.config, {.prompt = 40})).value();
  EXPECT_LT(furthest(feed(d, memory, ids, 40, attend_mode::one_shot), expected), 1e-5);
  auto all = make_memory(full{.budget = 40}, setup_for(m.config)).value();
  EXPECT_EQ(feed(d, all, ids), expected);
}

TEST(decoder, says_what_it_can_not_run_and_changes_nothing) {
  const model_weights m = random_model({});
  auto d = decoder<>::make(m, 6).value();
  const std::vector<int> ids = random_ids(7, m.config.vocab), wrong{1, m.config.vocab}, negative{-1};
  std::vector<float> logits(multistate::to_size(m.config.vocab));
  auto memory = make_memory(tova{.budget = 4}, setup_for(m.config, {.chunk = 3, .prompt = 4})).value();
  auto whole = make_memory(tova{.budget = 4, .scope = scope_kind::model}, setup_for(m.config, {.chunk = 3})).value();
  auto other = make_memory(tova{.budget = 4}, setup_for(random_model({.layers = 3}).config)).value();
  const std::span<const int> some(ids);
  const auto message = [&](batch_item item) { return std::string(d.forward({&item, 1}).message()); };
  EXPECT_EQ(message({nullptr, some.first(1)}), "batch item 0: has no memory");
  EXPECT_EQ(message({&memory, {}}), "batch item 0: has no tokens");
  EXPECT_EQ(message({&other, some.first(1)}), "batch item 0: its memory was made for another model");
  EXPECT_EQ(message({&memory, wrong}), "batch item 0: token 32 is not in the vocabulary of 32");
  EXPECT_EQ(message({&memory, negative}), "batch item 0: token -1 is not in the vocabulary of 32");
  EXPECT_EQ(message({&memory, some.first(4)}),
            "batch item 0: 4 tokens do not fit its memory's limits: chunk=3, hold=0, prompt=4");
  EXPECT_EQ(message({&memory, some.first(5), attend_mode::one_shot}),
            "batch item 0: 5 tokens do not fit its memory's limits: chunk=3, hold=0, prompt=4");
  EXPECT_EQ(message({&memory, some.first(7), attend_mode::one_by_one}),
            "batch item 0: 7 tokens do not fit its memory's limits: chunk=3, hold=0, prompt=4");
  EXPECT_EQ(message({&memory, some.first(1), attend_mode::held}),
            "batch item 0: 1 tokens do not fit its memory's limits: chunk=3, hold=0, prompt=4");
  EXPECT_EQ(message({&whole, some.first(2), attend_mode::one_by_one}),
            "batch item 0: at scope model tokens come in calls of one; got 2");
  EXPECT_EQ(message({&memory, some.first(1), attend_mode::together, phase::decode, logit_rows::last}),
            "batch item 0: wants logits but says not where");
  EXPECT_EQ(std::string(d.forward({}).message()), "batch: has no items");
  const std::vector<batch_item> large{{&memory, some.first(3)}, {&whole, some.first(3)}, {&whole, some.first(1)}};
  EXPECT_EQ(std::string(d.forward(large).message()), "batch: has 7 tokens, the decoder was made for 6");
  EXPECT_EQ(memory.next_position(), 0);
  EXPECT_EQ(message({&memory, some.first(1)}), "");
  auto all = make_memory(full{.budget = 4}, setup_for(m.config, {.chunk = 3})).value();
  EXPECT_EQ(message({&all, some.first(3)}), "");
  EXPECT_EQ(message({&all, some.first(2)}), "batch item 0: its memory drops nothing and was made for 4 tokens");
  EXPECT_EQ(message({&all, some.first(1)}), "");
  EXPECT_EQ(message({&memory, some.first(1), attend_mode::one_shot}),
            "batch item 0: a one-shot prompt needs an empty memory");

  EXPECT_EQ(decoder<>::make(m, 0).code(), errc::bad_limits);
  model_weights broken = m;
  broken.layers[1].up.pop_back();
  EXPECT_EQ(std::string(decoder<>::make(broken, 1).reason().message()), "model: up needs 40 x 24 floats; got 959");
  broken = m;
  broken.layers.pop_back();
  EXPECT_EQ(decoder<>::make(broken, 1).code(), errc::bad_shape);
  broken = m;
  broken.config.kv_heads = 3;
  EXPECT_EQ(decoder<>::make(broken, 1).code(), errc::bad_shape);
  broken.config.vocab = 0;
  EXPECT_EQ(decoder<>::make(broken, 1).code(), errc::bad_shape);
}

/// x as a format keeps it, rows of `columns`.
std::vector<float> rounded(const std::vector<float>& x, int columns, weight_format format) {
  std::vector<float> kept(x.size());
  with_state_format(format, [&]<class F>(F) {
    std::vector<std::byte> row(row_bytes<F>(columns));
    for (std::size_t at = 0; at < x.size(); at += multistate::to_size(columns)) {
      store_row<F>(row.data(), &x[at], columns);
      load_row<F>(&kept[at], row.data(), columns);
    }
  });
  return kept;
}

TEST(decoder, packed_weights_are_the_rounded_ones) {
  for (const bool tied : {false, true})
    for (const weight_format format :
         {weight_format::f32, weight_format::f16, weight_format::bf16, weight_format::i8}) {
      const model_weights m = random_model({.tied = tied});
      const model_config& c = m.config;
      model_weights expected = m;
      expected.embedding = rounded(m.embedding, c.hidden, format);
      expected.head = rounded(m.head, c.hidden, format);
      for (layer_weights& l : expected.layers) {
        for (auto* x : {&l.q, &l.k, &l.v, &l.gate, &l.up}) *x = rounded(*x, c.hidden, format);
        l.o = rounded(l.o, c.heads * c.head_dim, format);
        l.down = rounded(l.down, c.ffn, format);
      }
      const auto packed = packed_weights::make(m, format).value();
      const std::vector<int> ids = random_ids(30, c.vocab);
      std::vector<std::vector<float>> logits;
      for (const model_view& view : {view_of(expected), packed.view()}) {
        auto d = decoder<>::make(view, 8).value();
        auto memory = make_memory(tova{.budget = 12}, setup_for(c, {.chunk = 5})).value();
        logits.push_back(feed(d, memory, ids, 5));
      }
      for (std::size_t i = 0; i < logits[0].size(); ++i) ASSERT_NEAR(logits[0][i], logits[1][i], 2e-4);
    }
  model_weights broken = random_model({});
  const std::size_t floats = packed_weights::make(broken, weight_format::f32).value().bytes();
  EXPECT_EQ(packed_weights::make(broken, weight_format::f16).value().bytes() * 2, floats);
  broken.layers[0].down.push_back(0);
  EXPECT_EQ(packed_weights::make(broken, weight_format::i8).code(), errc::bad_shape);
  EXPECT_EQ(parse_state_format("i8").value(), weight_format::i8);
  EXPECT_EQ(std::string(parse_state_format("q4").reason().message()),
            "format: there are f32, f16, bf16 and i8; got 'q4'");
}

TEST(decoder, allocates_nothing_per_token) {
  const model_weights m = random_model({});
  const std::vector<int> ids = random_ids(60, m.config.vocab);
  auto d = decoder<>::make(m, 60).value();
  auto memories = many(m.config);
  memories.push_back(make_memory(tova{.budget = 6}, setup_for(m.config, {.chunk = 4, .hold = 4, .undo = 4})).value());
  std::vector<float> logits(memories.size() * multistate::to_size(m.config.vocab));
  std::vector<batch_item> batch;
  for (std::size_t i = 0; i < memories.size(); ++i) {
    ASSERT_EQ(d.reserve(memories[i]).code(), errc::ok);
    batch.push_back({&memories[i], std::span(ids).first(1), attend_mode::together, phase::decode, logit_rows::last,
                     &logits[i * multistate::to_size(m.config.vocab)]});
  }
  std::vector<std::size_t> bytes;
  bytes.reserve(memories.size());
  for (const auto& memory : memories) bytes.push_back(memory.bytes());
  const std::size_t before = support::allocations();
  for (std::size_t t = 0; t < 40; ++t) {
    for (batch_item& item : batch) item.tokens = std::span(ids).subspan(t, t % 10 == 3 ? 4 : 1);
    if (d.forward(batch).code() != errc::ok) FAIL();
  }
  EXPECT_EQ(support::allocations(), before);
  for (std::size_t i = 0; i < memories.size(); ++i) EXPECT_EQ(memories[i].bytes(), bytes[i]);
}

}  // namespace
