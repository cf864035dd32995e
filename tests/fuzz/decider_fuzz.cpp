// Programs over everything a decider does, chosen by the fuzzer; a broken promise aborts.
#include <cstddef>
#include <cstdint>

#include <support/random_program.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  support::program::given choices({data, size});
  support::program::run(choices, 500);
  return 0;
}
