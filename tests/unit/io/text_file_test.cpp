#include "files.hpp"

#include <multistate/io/text_file.hpp>

namespace {

using namespace multistate;
using namespace io_test;

TEST(io_text_file, text_is_its_bytes) {
  const scratch folder;
  const std::string text = std::string("a\0\r\n\xff", 5);
  EXPECT_EQ(*read_text(folder.write("t", text)), text);
  EXPECT_EQ(*read_text(folder.write("t", "")), "");
  expect_error(read_text(folder / "none"), errc::bad_file, folder / "none");
}

TEST(io_text_file, tokens_are_checked) {
  const scratch folder;
  const auto write = [&](const std::vector<std::int32_t>& ids) {
    std::string bytes;
    put(bytes, ids);
    return folder.write("t.tokens", bytes);
  };
  EXPECT_EQ(*read_tokens(write({0, 9, 3}), 10), (std::vector<int>{0, 9, 3}));
  EXPECT_TRUE(read_tokens(write({}), 10)->empty());
  expect_error(read_tokens(write({0, 10}), 10), errc::bad_file, folder / "t.tokens", {"token 1 is 10", "[0, 10)"});
  expect_error(read_tokens(write({-1}), 10), errc::bad_file, folder / "t.tokens", {"token 0 is -1"});
  expect_error(read_tokens(folder.write("t.tokens", "12345"), 10), errc::bad_file, folder / "t.tokens",
               {"multiple of 4"});
  expect_error(read_tokens(folder.path(), 10), errc::bad_file, folder.path());
}

TEST(io_text_file, a_pointer_is_no_text) {
  const scratch folder;
  const auto path = folder.write("a", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 100\n");
  expect_error(read_text(path), errc::bad_file, path, {"Git LFS pointer"});
  expect_error(read_tokens(path, 10), errc::bad_file, path, {"Git LFS pointer"});
}

}  // namespace
