#include "files.hpp"

#include <multistate/io/write_file.hpp>

#if MULTISTATE_IO_POSIX
#include <sys/stat.h>
#include <thread>
#endif

namespace {

using namespace multistate;
using namespace io_test;

std::span<const std::byte> as_bytes(std::string_view s) { return std::as_bytes(std::span(s)); }
std::string text_of(const fs::path& path) {
  const auto file = file_bytes::open(path);
  return file ? std::string(reinterpret_cast<const char*>(file->bytes().data()), file->size()) : "(none)";
}
std::vector<std::string> names_in(const scratch& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder.path())) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

TEST(write_file, whole_or_not_at_all) {
  const scratch folder;
  folder.write("a", "old");
  const std::string one = "one", two = "two";
  const std::vector<std::span<const std::byte>> parts = {as_bytes(one), {}, as_bytes(two)};
  const auto written = write_file(folder / "a", parts);
  ASSERT_TRUE(written);
  EXPECT_EQ(*written, 6u);
  EXPECT_EQ(text_of(folder / "a"), "onetwo");
  for (const fs::path& path : {folder / "no/a", folder / "a/b"}) {
    expect_error(write_file(path, as_bytes("x")), errc::bad_file, path, {"cannot be written"});
    EXPECT_NE(can_write_file(path).code(), errc::ok);
  }
  expect_error(write_file(folder.path(), as_bytes("x")), errc::bad_file, folder.path(), {"not a regular file"});
  EXPECT_NE(can_write_file(folder.path()).code(), errc::ok);
  EXPECT_EQ(can_write_file(folder / "new").code(), errc::ok);
  EXPECT_EQ(can_write_file(folder / "a").code(), errc::ok);
  EXPECT_EQ(names_in(folder), std::vector<std::string>{"a"}) << "no other file stays, and asking makes none";
}

#if MULTISTATE_IO_POSIX

TEST(write_file, a_name_may_be_as_long_as_a_name_can_be) {
  const scratch folder;
  const std::string name(255, 'n');
  EXPECT_EQ(text_of(folder.write(name, "x")), "x");
}

TEST(write_file, links_stay_links) {
  const scratch folder;
  folder.write("a", "old");
  fs::create_directory(folder / "deep");
  fs::create_symlink(folder / "a", folder / "link");
  fs::create_symlink("../b", folder / "deep/dangling");
  fs::create_symlink("deep/dangling", folder / "far");
  folder.write("link", "new");
  folder.write("far", "found");
  for (const char* name : {"link", "deep/dangling", "far"}) EXPECT_TRUE(fs::is_symlink(folder / name)) << name;
  EXPECT_EQ(text_of(folder / "a"), "new");
  EXPECT_EQ(text_of(folder / "b"), "found");
  fs::create_symlink("ring", folder / "ring");
  expect_error(write_file(folder / "ring", as_bytes("x")), errc::bad_file, folder / "ring", {"cannot be written"});
}

TEST(write_file, rights_are_handed_on) {
  const scratch folder;
  for (const mode_t mode : {0600, 0640, 0444, 0755}) {
    folder.write("a", "old");
    ASSERT_EQ(::chmod((folder / "a").c_str(), mode), 0);
    folder.write("a", "new");
    struct stat status {};
    ASSERT_EQ(::stat((folder / "a").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, mode);
  }
  const mode_t before = ::umask(027);
  folder.write("fresh", "x");
  ::umask(before);
  struct stat status {};
  ASSERT_EQ(::stat((folder / "fresh").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0640u);
}

TEST(write_file, streams_are_written_as_they_are) {
  const scratch folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  std::string got;
  std::thread reader([&] {
    std::FILE* pipe = std::fopen((folder / "pipe").c_str(), "rb");
    for (int c; (c = std::fgetc(pipe)) != EOF;) got += static_cast<char>(c);
    std::fclose(pipe);
  });
  EXPECT_TRUE(write_file(folder / "pipe", as_bytes("through")));
  reader.join();
  EXPECT_EQ(got, "through");
  EXPECT_TRUE(fs::is_fifo(folder / "pipe"));
  EXPECT_TRUE(write_file("/dev/null", as_bytes("x")));
  EXPECT_EQ(can_write_file("/dev/null").code(), errc::ok);
  if (fs::exists("/dev/full"))
    expect_error(write_file("/dev/full", as_bytes("x")), errc::bad_file, "/dev/full", {"No space left"});
}

#endif

}  // namespace
