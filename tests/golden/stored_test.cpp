// Policies that look at stored keys and values (shared/golden/policies2): kept positions, from an engine that keeps its
// own arrays and hands in a reader.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <multistate/decider/any_decider.hpp>
#include <multistate/io/safetensors.hpp>

#include <support/vector_engine.hpp>

namespace {

using namespace multistate;

const std::filesystem::path folder = std::filesystem::path(MULTISTATE_SHARED_DATA) / "golden" / "policies2";

support::vector_engine engine_of(const safetensors& file) {
  const auto& shape = file.find("q")->shape;
  support::vector_engine e{.tokens = static_cast<int>(shape[0]),
                           .heads = static_cast<int>(shape[1]),
                           .kv_heads = static_cast<int>(file.find("k")->shape[1]),
                           .d = static_cast<int>(shape[2]),
                           .q = file.floats("q").value(),
                           .k = file.floats("k").value(),
                           .v = file.floats("v").value(),
                           .frequencies = {}};
  e.use_theta(double{file.floats("theta").value()[0]});
  return e;
}

int number(const safetensors& file, const char* name) {
  return file.find(name) == nullptr ? 0 : file.ints(name).value()[0];
}

std::vector<std::int32_t> kept_in(const any_decider& d, int lane, std::size_t width) {
  std::vector<std::int32_t> kept;
  for (const position p : d.positions(lane))
    if (p >= 0) kept.push_back(static_cast<std::int32_t>(p));
  std::sort(kept.begin(), kept.end());
  kept.resize(std::max(width, kept.size()), -1);
  return kept;
}

void run(const std::filesystem::path& path) {
  const auto file = safetensors::open(path).value();
  const auto e = engine_of(safetensors::open(folder / (file.metadata().at("inputs") + ".safetensors")).value());
  const auto policy = parse_policy(entries_of(standard_policies()), file.metadata().at("policy")).value();
  const int prompt = number(file, "prompt"), chunk = std::max(1, number(file, "chunk")), first = number(file, "first");
  auto made = policy.make_decider(e.where(), {.chunk = std::max(chunk, first), .prompt = prompt});
  ASSERT_TRUE(made) << made.reason().message();
  any_decider& d = *made;
  d.append(1);
  EXPECT_EQ(d.fault(), d.reads() ? fault_kind::no_reader : fault_kind::none);
  d.clear_fault();
  if (!d.reads()) d.reduce();
  d.restart(0);
  d.read_from(e.reader());
  const auto ends = file.ints("step_end").value(), kept = file.ints("kept").value();
  const std::size_t lanes = multistate::to_size(d.lanes()), width = kept.size() / lanes / ends.size();
  std::size_t entry = 0;
  for (int t = 0; t < ends.back();) {
    int c = t == 0 && prompt > 0 ? prompt : t == 0 && first > 0 ? first : chunk;
    c = std::min(c, ends.back() - t);
    const bool in_chunks = chunk > 1 || first > 0;
    e.feed(d, t, c, t < prompt ? phase::prompt_end : in_chunks ? phase::prompt : phase::decode);
    t += c;
    if (entry >= ends.size() || ends[entry] != t) continue;
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      const auto from = kept.begin() + static_cast<std::ptrdiff_t>((entry * lanes + lane) * width);
      ASSERT_EQ(kept_in(d, static_cast<int>(lane), width),
                std::vector<std::int32_t>(from, from + static_cast<std::ptrdiff_t>(width)))
          << path.filename() << ", " << t << " tokens, lane " << lane;
    }
    ++entry;
  }
  EXPECT_EQ(entry, ends.size());
}

TEST(stored, kept_positions_are_those_recorded) {
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "there is no " << folder;
  int cases = 0;
  for (const auto& at : std::filesystem::directory_iterator(folder)) {
    const std::string name = at.path().stem();
    for (const std::string start : {"keydiff", "lagkv", "rkv", "expected", "adakv_expected"})
      if (name.starts_with(start) && !name.ends_with("_inputs")) ++cases, run(at.path());
  }
  EXPECT_GE(cases, 10);
}

}  // namespace
