#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include <multistate/tools/journal.hpp>
#include <multistate/tools/tally_json.hpp>

namespace {

using namespace multistate;
using multistate::detail::journal;
using json = nlohmann::ordered_json;

struct folder {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("multistate-journal-" + std::to_string(::getpid()) + "-" +
                                                ::testing::UnitTest::GetInstance()->current_test_info()->name());
  folder() { std::filesystem::create_directories(path); }
  ~folder() { std::filesystem::remove_all(path); }
  std::string output() const { return (path / "out.json").string(); }
};

TEST(journal, goes_on_with_what_was_kept) {
  const folder f;
  const json odd = {0.1, 1e300, -3, "text", nullptr, {{"key", {1, 2}}}};
  {
    journal j(f.output(), 7);
    EXPECT_EQ(j.find("a"), nullptr);
    j.keep("a", odd);
    j.keep("b", 2);
    EXPECT_EQ(*j.find("a"), odd);
  }
  journal again(f.output(), 7);
  EXPECT_EQ(again.parts(), 2u);
  EXPECT_EQ(*again.find("a"), odd);
  EXPECT_EQ(*again.find("b"), 2);
  EXPECT_EQ(journal(f.output(), 8).parts(), 0u) << "other settings";
  again.remove();
  EXPECT_TRUE(std::filesystem::is_empty(f.path));
}

TEST(journal, keeps_nothing_where_nothing_is_written) {
  journal j;
  j.keep("a", 1);
  EXPECT_EQ(j.find("a"), nullptr);
  j.remove();
}

TEST(journal, whatever_a_kill_leaves_is_cut_off_and_written_again) {
  const folder f;
  std::string path;
  {
    journal j(f.output(), 7);
    j.keep("a", std::vector<double>(50, 0.3));
    j.keep("b", std::vector<double>(50, 0.7));
    path = j.path();
  }
  const auto whole = std::filesystem::file_size(path);
  for (std::uintmax_t size = whole; size-- > 0;) {
    std::filesystem::resize_file(path, size);
    journal j(f.output(), 7);
    ASSERT_EQ(j.parts(), size >= whole / 2 ? 1u : 0u) << size;
    ASSERT_EQ(std::filesystem::file_size(path), size >= whole / 2 ? whole / 2 : 0);
    j.keep("b", 5);
    ASSERT_EQ(*journal(f.output(), 7).find("b"), 5);
    std::filesystem::remove(path);
    journal anew(f.output(), 7);
    anew.keep("a", std::vector<double>(50, 0.3));
    anew.keep("b", std::vector<double>(50, 0.7));
  }
}

TEST(journal, a_changed_byte_ends_what_is_believed) {
  const folder f;
  std::string path;
  {
    journal j(f.output(), 7);
    j.keep("a", 1);
    j.keep("b", 2);
    path = j.path();
  }
  for (std::uintmax_t at = 0; at < std::filesystem::file_size(path); ++at) {
    std::string bytes(std::filesystem::file_size(path), '\0');
    std::ifstream(path, std::ios::binary).read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    const std::string good = bytes;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x55);
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    EXPECT_LT(journal(f.output(), 7).parts(), 2u) << at;
    std::ofstream(path, std::ios::binary).write(good.data(), static_cast<std::streamsize>(good.size()));
  }
}

TEST(journal, a_window_comes_back_bit_for_bit) {
  tally t;
  t.score(0.1, 1.0 / 3, 1e-17, true);
  t.place(40, 0.7);
  t.attend(17.5, 18, true);
  t.rest(12345.678);
  t.lived().kept_mass = 0.3;
  t.lived().states = 4;
  t.lived().life = 11;
  t.lived().alive = {3, 1};
  t.lived().seen = {4, 4};
  t.deaths() = {1, 2, 3};
  t.end_window();
  const std::vector<std::vector<tally>> rows{{t}, {}};
  const json kept = json::from_cbor(json::to_cbor(multistate::detail::to_json(rows)));
  std::vector<std::vector<tally>> back(2);
  back[0].emplace_back();
  multistate::detail::append_window(kept, back);
  EXPECT_EQ(multistate::detail::to_json(back), multistate::detail::to_json(rows));
  const std::vector<int> ages{0, 1};
  const figures a = tally::sum_up(rows[0], 1, true, ages), b = tally::sum_up(back[0], 1, true, ages);
  EXPECT_EQ(a.nll, b.nll);
  EXPECT_EQ(a.kl_mean, b.kl_mean);
  EXPECT_EQ(a.kl_p99, b.kl_p99);
  EXPECT_EQ(a.mean_life, b.mean_life);
  EXPECT_EQ(a.bytes_live, b.bytes_live);
  EXPECT_EQ(a.deaths, b.deaths);
  ASSERT_EQ(b.survival.size(), 2u);
  EXPECT_EQ(b.survival[1].alive, 0.25);
  ASSERT_EQ(b.by_position.size(), 1u);
  EXPECT_EQ(b.by_position[0].position, 32);
}

}  // namespace
