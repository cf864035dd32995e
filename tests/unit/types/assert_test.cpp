#define MULTISTATE_HARDENED
#include <multistate/util/assert.hpp>

#include <gtest/gtest.h>

namespace {

TEST(assertion, says_what_and_where) {
  const int states = 3;
  MULTISTATE_ASSERT(states < 4);
  EXPECT_DEATH(MULTISTATE_ASSERT(states > 3), "assert_test\\.cpp:11: multistate: needs states > 3");
}

}  // namespace
