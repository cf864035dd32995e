#include "files.hpp"

#include <multistate/io/json.hpp>

namespace {

using namespace multistate;
using namespace io_test;
using json = nlohmann::json;

TEST(io_json, builds_what_the_text_says) {
  const scratch folder;
  for (const char* text : {"{}", R"({"a":[1,-2,0.5,1e3,true,false,null,"\u00e9\n",{"a":[[],{}]}],"b":{"a":[]}})",
                           R"(  {"large":18446744073709551615,"small":-9223372036854775808,"":""} )"}) {
    const auto got = detail::read_json(folder.write("a", text));
    ASSERT_TRUE(got) << got.reason().message();
    EXPECT_EQ(*got, json::parse(text));
  }
}

TEST(io_json, says_what_is_wrong) {
  const scratch folder;
  const std::string deep = std::string(64, '[') + std::string(64, ']');
  for (const auto& [text, word] : {std::pair<std::string, const char*>{"", "is empty"},
                                   {"[1]", "holds [1], must be a JSON object"},
                                   {"{\"a\":1,}", "not JSON at byte 8"},
                                   {"{\"a\":1} x", "not JSON at byte 9"},
                                   {"{\"a\":\"\xff\"}", "not JSON at byte"},
                                   {"{\"a\":{\"b\":1,\"c\":2,\"b\":1}}", "the key b twice"},
                                   {"{\"a\":" + deep + "}", "nested deeper than 64"},
                                   {"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"}}) {
    const auto path = folder.write("a", text);
    expect_error(detail::read_json(path), errc::bad_file, path, {word});
  }
}

TEST(io_json, is_bounded_in_bytes_and_values) {
  const scratch folder;
  std::string text = "{\"a\":[";
  while (text.size() < 12'000'000) text += "{},";
  const auto path = folder.write("a", text + "{}]}");
  expect_error(detail::read_json(path), errc::bad_file, path, {"must be at most 1048576"});
  expect_error(detail::read_json(path, std::uint64_t{1} << 28), errc::bad_file, path, {"has more than 25", "values"});
}

}  // namespace
