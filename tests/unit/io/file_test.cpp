#include "files.hpp"

#include <set>

#if MULTISTATE_IO_POSIX
#include <sys/stat.h>
#endif

namespace {

using namespace multistate;
using namespace io_test;

std::span<const std::byte> as_bytes(std::string_view s) { return std::as_bytes(std::span(s)); }

TEST(io_file, reads_what_was_written) {
  const scratch folder;
  for (std::size_t size : {0u, 1u, 4095u, 4096u, 100000u}) {
    std::string text(size, 'x');
    for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 7);
    const auto path = folder.write("a", text);
    auto opened = file_bytes::open(path);
    ASSERT_TRUE(opened);
    const file_bytes moved = std::move(*opened);
    EXPECT_EQ(moved.size(), size);
    EXPECT_TRUE(std::ranges::equal(moved.bytes(), as_bytes(text)));
  }
}

TEST(io_file, refuses_what_is_no_regular_file) {
  const scratch folder;
  expect_error(file_bytes::open(folder / "none"), errc::bad_file, folder / "none", {"no such file"});
  expect_error(file_bytes::open(folder.path()), errc::bad_file, folder.path(), {"directory"});
  const auto path = folder.write("a", "12345");
  expect_error(file_bytes::open(path, 4), errc::bad_file, path, {"5 bytes", "at most 4"});
  EXPECT_TRUE(file_bytes::open(path, 5));
#if MULTISTATE_IO_POSIX
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  expect_error(file_bytes::open(folder / "pipe"), errc::bad_file, folder / "pipe", {"regular"});  // and does not wait
  expect_error(file_bytes::open("/dev/zero"), errc::bad_file, "/dev/zero", {"regular"});
#endif
}

TEST(io_file, hash_sees_every_byte_and_the_length) {
  std::set<std::uint64_t> seen;
  std::size_t made = 0;
  for (std::size_t size : {0u, 1u, 7u, 8u, 9u, 31u, 32u, 33u, 64u, 71u}) {
    std::string text(size, '\0');
    seen.insert(hash_bytes(as_bytes(text)));
    ++made;
    for (std::size_t i = 0; i < size; ++i, ++made) {
      text[i] = 1;
      seen.insert(hash_bytes(as_bytes(text)));
      text[i] = 0;
    }
  }
  EXPECT_EQ(seen.size(), made);
  // Pinned: reports name models and texts by it, so it may only change together with their format.
  EXPECT_EQ(hash_bytes(as_bytes("multistate")), 0xcf46d684d4cac3c8u);
}

TEST(io_file, sizes_stick_at_the_largest) {
  constexpr std::uint64_t most = ~std::uint64_t{0};
  EXPECT_EQ(detail::times(most, 2), most);
  EXPECT_EQ(detail::times(1ull << 32, 1ull << 32), most);
  EXPECT_EQ(detail::times(1ull << 32, 1ull << 31), 1ull << 63);
  EXPECT_EQ(detail::times(most, 0), 0u);
  EXPECT_EQ(detail::plus(most, 1), most);
  EXPECT_EQ(detail::plus(2, 3), 5u);
}

}  // namespace
