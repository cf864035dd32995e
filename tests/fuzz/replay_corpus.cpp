// replay_corpus FOLDER [MUTATIONS]: runs a fuzzer's entry point over the files of its corpus and over seeded mutations
// of each, so that every test run does a little of what libFuzzer does when asked (-D MULTISTATE_FUZZ=ON). Where an
// input ends the program, its name and the number of the mutation are printed: the same arguments make it again.

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include <multistate/util/hash.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using bytes = std::vector<std::uint8_t>;

struct random_numbers {
  std::uint64_t state;
  std::size_t below(std::size_t end) { return end == 0 ? 0 : multistate::mix(state++) % end; }
};

/// One to four changes: bits, bytes, cuts, repeats, numbers of extreme size, and the end of another file.
bytes mutated(bytes input, const bytes& other, random_numbers& random) {
  constexpr std::uint64_t extremes[] = {
      0, 1, 0x7f, 0x80, 0xff, 0x7fffffff, 0x80000000, 0xffffffff, std::uint64_t{1} << 62, ~std::uint64_t{0}};
  for (std::size_t changes = 1 + random.below(4); changes > 0; --changes) {
    const std::size_t at = random.below(input.size() + 1);
    const auto current = input.begin() + static_cast<std::ptrdiff_t>(at);
    const std::size_t length = std::min(input.size() - at, 1 + random.below(16));
    switch (random.below(6)) {
      case 0:
        if (at < input.size()) input[at] ^= static_cast<std::uint8_t>(1u << random.below(8));
        break;
      case 1:
        input.insert(current, static_cast<std::uint8_t>(random.below(256)));
        break;
      case 2:
        input.erase(current, current + static_cast<std::ptrdiff_t>(length));
        break;
      case 3: {
        const bytes piece(current, current + static_cast<std::ptrdiff_t>(length));
        input.insert(current, piece.begin(), piece.end());
        break;
      }
      case 4: {
        const std::uint64_t number = extremes[random.below(std::size(extremes))];
        for (std::size_t i = 0; i < std::min<std::size_t>(8, input.size() - at); ++i)
          input[at + i] = static_cast<std::uint8_t>(number >> (8 * i));
        break;
      }
      default: {
        input.resize(at);
        input.insert(input.end(), other.begin() + static_cast<std::ptrdiff_t>(random.below(other.size() + 1)),
                     other.end());
      }
    }
  }
  return input;
}

char running[512];

void tell(int signal) {
  std::fputs(running, stderr);
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

}  // namespace

int main(int argc, char** argv) {
  const std::filesystem::path folder = argc > 1 ? argv[1] : "";
  const std::size_t mutations = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1000;
  if (argc < 2 || !std::filesystem::is_directory(folder)) {
    std::fprintf(stderr, "usage: replay_corpus FOLDER [MUTATIONS]; '%s' is no folder\n", folder.c_str());
    return 2;
  }
  std::vector<std::filesystem::path> files(std::filesystem::directory_iterator(folder), {});
  std::sort(files.begin(), files.end());
  std::vector<bytes> inputs;
  for (const auto& file : files) {
    std::ifstream in(file, std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  if (inputs.empty()) {
    std::fprintf(stderr, "replay_corpus: %s holds no file\n", folder.c_str());
    return 2;
  }
  for (const int signal : {SIGABRT, SIGSEGV, SIGILL, SIGFPE, SIGBUS, SIGTRAP}) std::signal(signal, tell);

  // A slow machine or sanitizers may end it before the last mutation, never before the files themselves are done.
  constexpr auto most = std::chrono::seconds(20);
  const auto begun = std::chrono::steady_clock::now();
  std::size_t runs = 0;
  for (std::size_t n = 0; n <= mutations; ++n)
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (n > 0 && std::chrono::steady_clock::now() - begun > most) break;
      random_numbers random{multistate::mix(n * inputs.size() + i)};
      std::snprintf(running, sizeof running, "replay_corpus: ended in mutation %zu of %s\n", n, files[i].c_str());
      const bytes input = n == 0 ? inputs[i] : mutated(inputs[i], inputs[random.below(inputs.size())], random);
      LLVMFuzzerTestOneInput(input.data(), input.size());
      ++runs;
    }
  std::printf("%zu inputs, from %zu files of %s\n", runs, files.size(), folder.c_str());
}
