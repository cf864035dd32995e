// What the blocks of quantised weights mean: floats computed by other code from the same bytes.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <multistate/format/formats.hpp>
#include <multistate/io/safetensors.hpp>

namespace {

using namespace multistate;

std::string file_name(weight_format format) {
  std::string name(name_of(format));
  std::transform(name.begin(), name.end(), name.begin(), [](char c) { return static_cast<char>(std::toupper(c)); });
  return name + ".safetensors";
}

/// Whether a scale and a minimum are combined, so that a fused multiply-add may move the last bit.
bool has_minimum(weight_format format) {
  return format == weight_format::q4_1 || format == weight_format::q5_1 || format == weight_format::q4_k ||
         format == weight_format::q5_k;
}

void compare(const safetensors& file, weight_format format, const std::string& suffix) {
  const tensor_info* raw = file.find("raw" + suffix);
  if (raw == nullptr) return;
  const auto expected = file.floats("value" + suffix).value();
  ASSERT_EQ(row_bytes(format, expected.size()), raw->shape[0]);
  std::vector<float> got(expected.size());
  load_row(format, got.data(), file.data(*raw).data(), got.size());
  float largest = 0;
  for (const float x : expected)
    if (std::isfinite(x)) largest = std::max(largest, std::abs(x));
  for (std::size_t i = 0; i < got.size(); ++i)
    if (has_minimum(format))
      ASSERT_NEAR(got[i], expected[i], 1e-6f * largest) << name_of(format) << suffix << " " << i;
    else if (std::isnan(expected[i]))
      ASSERT_TRUE(std::isnan(got[i])) << name_of(format) << suffix << " " << i;
    else
      ASSERT_EQ(std::memcmp(&got[i], &expected[i], sizeof(float)), 0)
          << name_of(format) << suffix << " " << i << ": " << got[i] << ", not " << expected[i];
}

int compare_folder(const std::filesystem::path& folder) {
  int files = 0;
  for (const weight_format format : weight_formats) {
    const auto path = folder / file_name(format);
    if (!std::filesystem::exists(path)) continue;
    const auto file = safetensors::open(path).value();
    for (const char* suffix : {"", "_random", "_special"}) compare(file, format, suffix);
    ++files;
  }
  return files;
}

TEST(blocks, random_bytes_mean_what_they_should) {
  EXPECT_EQ(compare_folder(std::filesystem::path(MULTISTATE_TEST_DATA) / "golden" / "blocks"), 13);
}

TEST(blocks, real_weights_mean_what_they_should) {
  const auto folder = std::filesystem::path(MULTISTATE_SHARED_DATA) / "golden" / "models" / "blocks";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "needs " << folder;
  EXPECT_EQ(compare_folder(folder), 13);
}

}  // namespace
