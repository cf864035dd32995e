#include <gtest/gtest.h>

#include <cstdlib>

#include <support/random_program.hpp>

namespace {

/// MULTISTATE_OPERATIONS: how many, 2,000,000 where it is not set. MULTISTATE_SEED: of the first program.
long from_environment(const char* name, long otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::atol(text) : otherwise;
}

TEST(random_programs, deciders_states_and_a_slow_model_agree) {
  using namespace support::program;
  const long operations = from_environment("MULTISTATE_OPERATIONS", 2'000'000);
  auto seed = static_cast<std::uint64_t>(from_environment("MULTISTATE_SEED", 1));
  for (long done = 0; done < operations; ++seed) {
    now.seed = seed;
    seeded source(seed);
    done += run(source, source.between(20, 400));
  }
}

}  // namespace
