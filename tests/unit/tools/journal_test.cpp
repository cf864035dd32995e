#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include <tools/runs/journal.hpp>
#include <tools/runs/totals_json.hpp>

namespace {

using namespace multistate;
using namespace multistate::tools;
using json = nlohmann::ordered_json;

struct folder {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("multistate-journal-" + std::to_string(::getpid()) + "-" +
                                                ::testing::UnitTest::GetInstance()->current_test_info()->name());
  folder() { std::filesystem::create_directories(path); }
  ~folder() { std::filesystem::remove_all(path); }
  std::string output() const { return (path / "out.json").string(); }
  std::string file(std::uint64_t settings = 7) const { return output() + "." + hash_text(settings) + ".partial"; }
  void write(const std::string& bytes) const { std::ofstream(file(), std::ios::binary) << bytes; }
  std::string read() const {
    std::ifstream in(file(), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void keep(std::initializer_list<std::pair<const char*, json>> records) const {
    journal j;
    j.open(output(), 7);
    for (const auto& [name, value] : records) j.keep(name, value);
  }
  /// What is found there; "(none)" where it is not; "refused: ..." where the journal or the record is.
  std::string found(const char* name) const {
    try {
      journal j;
      j.open(output(), 7);
      json value;
      return j.restore(name, [&](const json& x) { value = x; }) ? value.dump() : "(none)";
    } catch (const usage_error& e) {
      return std::string("refused: ") + e.what();
    }
  }
};

std::string line_of(const std::string& body) {
  return hash_text(hash_bytes(std::as_bytes(std::span(body)))) + " " + body + "\n";
}

TEST(journal, goes_on_with_what_was_kept) {
  const folder f;
  const json odd = {0.1, 1e300, -3, "text \x1b\n", nullptr, {{"key", {1, 2}}}, -0.0, 5e-324};
  {
    journal j;
    j.open(f.output(), 7);
    EXPECT_FALSE(j.keeps_any());
    j.keep("a", odd);
    j.keep("b", 2);
    j.keep("b", 3);
    EXPECT_TRUE(j.keeps_any());
    EXPECT_EQ(j.parts(), 0u) << "nothing was done before";
  }
  EXPECT_EQ(f.found("a"), odd.dump());
  EXPECT_EQ(f.found("b"), "3") << "the last counts";
  EXPECT_EQ(f.found("c"), "(none)");
  journal again;
  again.open(f.output(), 7);
  EXPECT_EQ(again.parts(), 2u);
  journal other;
  other.open(f.output(), 8);
  EXPECT_EQ(other.parts(), 0u) << "other settings";
  again.remove();
  other.remove();
  EXPECT_TRUE(std::filesystem::is_empty(f.path));
}

TEST(journal, keeps_nothing_where_nothing_is_written) {
  const folder f;
  journal closed;
  closed.keep("a", 1);
  EXPECT_FALSE(closed.restore("a", [](const json&) {}));
  closed.remove();
  {
    journal j;
    j.open(f.output(), 7);
    EXPECT_TRUE(std::filesystem::exists(j.path()));
  }
  EXPECT_TRUE(std::filesystem::is_empty(f.path)) << "an empty one goes";
}

TEST(journal, what_a_kill_leaves_torn_is_cut_off_and_written_again) {
  const folder f;
  f.keep({{"a", {0.3, 0.4}}});
  const std::size_t one = f.read().size(), none = journal_head(7).size();
  f.keep({{"b", {0.7, 0.8}}});
  const std::string whole = f.read();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    f.write(whole.substr(0, size));
    ASSERT_EQ(f.found("a"), size >= one ? "[0.3,0.4]" : "(none)") << size;
    ASSERT_EQ(f.found("b"), "(none)") << size;
    ASSERT_EQ(f.read().size(), size >= one ? one : 0u) << size << ": what keeps nothing goes";
    f.keep({{"b", 5}});
    ASSERT_EQ(f.found("b"), "5");
  }
  f.write(whole + std::string(100, '\0'));  // after a power cut
  EXPECT_EQ(f.found("b"), "[0.7,0.8]");
  EXPECT_EQ(f.read(), whole);
  EXPECT_GT(one, none);
}

TEST(journal, what_is_changed_is_not_believed) {
  const folder f;
  f.keep({{"a", 1}});
  const std::size_t one = f.read().size();
  f.keep({{"b", 2}});
  const std::string good = f.read();
  for (std::size_t at = 0; at < good.size(); ++at) {
    std::string bytes = good;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x55);
    f.write(bytes);
    const std::string a = f.found("a"), b = f.found("b");
    if (at == one - 1) {
      EXPECT_EQ(a, "(none)") << "two records in one line: the last, torn";
    } else if (at < one) {
      EXPECT_EQ(a.substr(0, 9), "refused: ") << at;
      EXPECT_NE(a.find(f.file()), a.npos) << at << ": names the file";
      EXPECT_EQ(f.read(), bytes) << at << ": and leaves it";
    } else {
      EXPECT_EQ(a, "1") << at;
      EXPECT_EQ(b, "(none)") << at;  // the last record is torn
    }
  }
}

TEST(journal, what_is_no_journal_of_this_run_is_left_as_it_is) {
  const folder f;
  const std::string deep = "[\"a\"," + std::string(100000, '[') + std::string(100000, ']') + "]";
  for (const std::string& bytes :
       {std::string("precious"), std::string(100, '\xff'), journal_head(8),
        std::string("multistate journal 2 ") + hash_text(7) + "\n", std::string("\n"),
        journal_head(7) + "\n" + line_of("[\"a\",1]"), journal_head(7) + line_of(deep),
        journal_head(7) + line_of("[1,2]"), journal_head(7) + line_of("[\"a\"]"), journal_head(7) + line_of("{"),
        journal_head(7) + line_of("[\"a\",1]") + journal_head(7) + line_of("[\"a\",1]")}) {
    f.write(bytes);
    EXPECT_EQ(f.found("a").substr(0, 9), "refused: ") << bytes.substr(0, 50);
    EXPECT_EQ(f.read(), bytes);
  }
  std::filesystem::remove(f.file());
  std::filesystem::create_directory(f.file());
  EXPECT_EQ(f.found("a").substr(0, 9), "refused: ");
  std::filesystem::remove(f.file());
  ASSERT_EQ(::mkfifo(f.file().c_str(), 0600), 0);
  EXPECT_EQ(f.found("a").substr(0, 9), "refused: ") << "and does not wait";
  std::filesystem::remove(f.file());
  for (const char* target : {"precious", "nowhere"}) {
    std::ofstream(f.path / "precious") << "precious";
    std::filesystem::create_symlink(target, f.file());
    EXPECT_NE(f.found("a").find("is a link"), std::string::npos);
    EXPECT_TRUE(std::filesystem::is_symlink(f.file()));
    EXPECT_EQ(std::filesystem::file_size(f.path / "precious"), 8u);
    EXPECT_FALSE(std::filesystem::exists(f.path / "nowhere"));
    std::filesystem::remove(f.file());
  }
}

TEST(journal, one_run_at_a_time) {
  const folder f;
  journal first;
  first.open(f.output(), 7);
  EXPECT_NE(f.found("a").find("another run"), std::string::npos);
  first.remove();
  EXPECT_EQ(f.found("a"), "(none)");
}

TEST(journal, a_record_that_does_not_fit_is_refused) {
  const folder f;
  f.keep({{"a", {{"x", 1}}}});
  journal j;
  j.open(f.output(), 7);
  const auto refused = [&](auto take) {
    try {
      j.restore("a", take);
    } catch (const usage_error& e) {
      return std::string(e.what()).find(j.path() + ": record 'a' does not fit this run: ") == 0;
    }
    return false;
  };
  EXPECT_TRUE(refused([](const json& x) { whole_of(x.at("x"), 2, 3); }));
  EXPECT_TRUE(refused([](const json& x) { whole_of(x.at("y"), 0, 3); }));
  EXPECT_TRUE(refused([](const json& x) { list_of(x, 1); }));
  EXPECT_FALSE(refused([](const json& x) { whole_of(x.at("x"), 1, 1); }));
}

TEST(journal, numbers_are_what_they_can_be) {
  EXPECT_THROW(whole_of(json(1.5), 0, 9), bad_record);
  EXPECT_THROW(whole_of(json(~std::uint64_t{0}), -9, 9), bad_record);
  EXPECT_THROW(whole_of(json("1"), 0, 9), bad_record);
  EXPECT_THROW(whole_of(json(true), 0, 9), bad_record);
  EXPECT_EQ(whole_of(json(9), 0, 9), 9);
  EXPECT_THROW(real_of(json(nullptr)), bad_record);
  EXPECT_THROW(real_of(json::parse("1e400", nullptr, false)), bad_record);
  EXPECT_EQ(real_of(json(3)), 3.0);
  EXPECT_THROW(reals_of(json{1.0, 2.0}, 3), bad_record);
  EXPECT_THROW(wholes_of(json::object(), 0, 0, 1), bad_record);
}

/// A window of 20 queries, scored from 18 on, of one lane whose states are traced; two ages.
totals a_window() {
  totals t;
  for (int j = 0; j < 20; ++j) {
    t.place(j, 0.1 * j);
    t.attend(17.5, 18, j >= 18);
    t.rest(12345.678);
  }
  t.score(0.1, 1.0 / 3, 1e-17, true);
  t.score(2, 1, 0.5, false);
  life_sums& l = t.lived();
  l.states = 20;
  l.life = 90;
  l.kind_states = {3, 0, 0, 1, 0, 15, 0};
  l.kind_life = {30, 0, 0, 1, 0, 59, 0};
  l.kept_mass = 0.3;
  l.full_mass = 0.7;
  l.alive = {20, 7};
  l.seen = {20, 10};
  for (int p = 0; p < 20; ++p) t.deaths().push_back(std::min(20, p + 4));
  return t;
}
const window_shape shape_of_it{.queries = 20, .scored = 2, .steps = 20, .states = 20, .ages = 2, .deaths = 20};

TEST(journal, a_window_comes_back_bit_for_bit) {
  totals t = a_window();
  const json kept = json::parse(to_json(t.window()).dump(-1, ' ', true));
  totals back;
  back.go_on(window_sums_from(kept, shape_of_it));
  EXPECT_EQ(to_json(back.window()), to_json(t.window()));
  t.end_window();
  back.end_window();
  const std::vector<int> ages{0, 1};
  const figures a = totals::sum_up(std::span(&t, 1), 1, true, ages),
                b = totals::sum_up(std::span(&back, 1), 1, true, ages);
  EXPECT_EQ(a.nll, b.nll);
  EXPECT_EQ(a.kl_mean, b.kl_mean);
  EXPECT_EQ(a.kl_p99, b.kl_p99);
  EXPECT_EQ(a.mean_life, b.mean_life);
  EXPECT_EQ(a.bytes_live, b.bytes_live);
  EXPECT_EQ(a.deaths, b.deaths);
  ASSERT_EQ(b.survival.size(), 2u);
  EXPECT_EQ(b.survival[1].alive, 0.7);
  ASSERT_EQ(b.by_position.size(), 2u);
  EXPECT_EQ(b.by_position[1].position, 16);
}

TEST(journal, a_window_that_cannot_be_is_refused) {
  const json good = to_json(a_window().window());
  EXPECT_NO_THROW(window_sums_from(good, shape_of_it));
  for (const char* mutation : {R"({"nll":"x"})",
                               R"({"nll":null})",
                               R"({"difference":[]})",
                               R"({"kl":-1})",
                               R"({"kl":0.1})",
                               R"({"attended":-1})",
                               R"({"bytes":1e999})",
                               R"({"agreeing":3})",
                               R"({"scored":3})",
                               R"({"scored":0})",
                               R"({"attending":0})",
                               R"({"steps":19})",
                               R"({"most":0})",
                               R"({"most":4000000000})",
                               R"({"kls":[]})",
                               R"({"kls":[0.5,0.5]})",
                               R"({"kls":[-0.5,1]})",
                               R"({"differences":[1]})",
                               R"({"counts":[16]})",
                               R"({"counts":[16,5]})",
                               R"({"counts":[16,4,0]})",
                               R"({"deaths":[]})",
                               R"({"lived":null})",
                               R"({"lived":{"states":21}})",
                               R"({"lived":{"life":1}})",
                               R"({"lived":{"life":401}})",
                               R"({"lived":{"kind_states":[20,1,0,0,0,0,0]}})",
                               R"({"lived":{"kind_life":[1]}})",
                               R"({"lived":{"unknown":2}})",
                               R"({"lived":{"kept_mass":1}})",
                               R"({"lived":{"full_mass":-1}})",
                               R"({"lived":{"alive":[20]}})",
                               R"({"lived":{"alive":[20,11]}})",
                               R"({"lived":{"seen":[20,21]}})"}) {
    json bad = good;
    bad.merge_patch(json::parse(mutation, nullptr, false));
    EXPECT_ANY_THROW(window_sums_from(bad, shape_of_it)) << mutation;
  }
  for (const int death : {0, 3, 21, -1}) {
    json bad = good;
    bad["deaths"][3] = death;
    EXPECT_ANY_THROW(window_sums_from(bad, shape_of_it)) << death;
  }
  for (const json& bad : {json(nullptr), json::array(), json::object(), json(7)})
    EXPECT_ANY_THROW(window_sums_from(bad, shape_of_it));
  totals::window_sums full = a_window().window(), row = full;
  full.difference = 0;
  full.nll = row.nll - row.difference;
  EXPECT_NO_THROW(check_against_full(row, full));
  EXPECT_NO_THROW(check_against_full(full, full));
  row.nll *= 0.5;
  EXPECT_THROW(check_against_full(row, full), bad_record);
}

}  // namespace
