#include <multistate/decider/decider.hpp>
#include <multistate/policy/registry.hpp>

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include <support/busy_policy.hpp>

namespace {

using namespace multistate;
using any = any_policy<standard_policies>;

std::string canonical(const std::string& text) {
  const auto p = any::parse(text);
  return p ? p->str() : std::string(p.reason().message());
}

TEST(parse, prints_back_in_canonical_form) {
  for (const std::string text :
       {"full", "window:256", "window+4:256", "h2o:256", "h2o:256,scope=layer,recent=64,normalised=true",
        "tova:256,scope=head,pinned=4", "random:64,seed=3", "knorm:8,scope=model", "tova", "window+4", "h2o,recent=0"})
    EXPECT_EQ(canonical(text), text);
  EXPECT_EQ(canonical("h2o:256,recent=64,scope=layer,normalised=true"),
            "h2o:256,scope=layer,recent=64,normalised=true");
  EXPECT_EQ(canonical("tova:256,scope=layer,pinned=0"), "tova:256");
  EXPECT_EQ(canonical("window+0:5"), "window:5");
  EXPECT_EQ(canonical("random:4,seed=18446744073709551615"), "random:4,seed=18446744073709551615");
  EXPECT_EQ(canonical("h2o:4,normalised=false"), "h2o:4");
}

TEST(parse, gives_the_settings) {
  const auto p = any::parse("window+4:256").value();
  EXPECT_EQ(p.name(), "window");
  EXPECT_EQ(p.budget(), 256);
  EXPECT_EQ(p.wants(), evidence{});
  EXPECT_EQ(p.scope(), scope_kind::layer);
  EXPECT_FALSE(p.unbounded());
  EXPECT_TRUE(any::parse("full").value().unbounded());
  EXPECT_EQ(p.visit([](const auto& x) { return x.keeps(x.budget).first; }), 4);
  EXPECT_EQ(p.with_budget(16).value().str(), "window+4:16");
  EXPECT_EQ(p.str_without_budget(), "window+4");
  EXPECT_EQ(p.with_budget(3).code(), errc::bad_policy);
  EXPECT_EQ(any::parse("h2o,recent=64").value().with_budget(16).reason().message(),
            "h2o: needs 0 <= recent <= budget; got budget=16, scope=head, recent=64, normalised=false");
}

TEST(parse, refuses_in_one_line_that_lists_what_there_is) {
  EXPECT_EQ(canonical("nova:4"),
            "policy 'nova:4': no policy is called 'nova'; there are: full, window[+N], h2o, tova, a2sf, random, knorm, "
            "keydiff, snapkv, observed, lagkv, expected, rkv");
  EXPECT_EQ(canonical(""),
            "policy '': no policy is called ''; there are: full, window[+N], h2o, tova, a2sf, random, knorm, "
            "keydiff, snapkv, observed, lagkv, expected, rkv");
  EXPECT_EQ(canonical("tova:4,pined=1"),
            "policy 'tova:4,pined=1': tova has no 'pined'; there are: scope, pinned, newest, mix, every, "
            "segments, quota, heads, floor, layers");
  EXPECT_EQ(canonical("tova:4,scope=heads"),
            "policy 'tova:4,scope=heads': scope=heads: 'heads' is not head, layer, model or model_head");
  EXPECT_EQ(canonical("tova:4,scope=head,scope=head"), "policy 'tova:4,scope=head,scope=head': 'scope' is given twice");
  EXPECT_EQ(canonical("tova:0"), "policy 'tova:0': '0' is not a budget: a whole number from 1 to 2^28");
  for (const std::string text : {"tova:-1",
                                 "tova:",
                                 "tova:x",
                                 "tova:4x",
                                 "tova:99999999999",
                                 "tova:268435457",
                                 "tova:4,pinned=-1",
                                 "tova:4,pinned=",
                                 "tova:4,pinned=1.5",
                                 "tova:4,pinned",
                                 "tova+4:8",
                                 "window+:8",
                                 "window+-1:8",
                                 "full:8",
                                 "h2o:4,normalised=yes",
                                 "random:4,seed=-1",
                                 "random:4,seed=18446744073709551616",
                                 "window:4,+=2",
                                 "tova:4,pinned=3,newest=2",
                                 "window+5:4",
                                 "tova :4",
                                 "TOVA:4",
                                 "tova:4, scope=head",
                                 "tova:64,",
                                 "tova,",
                                 "tova,,",
                                 ",tova",
                                 ",",
                                 "full,",
                                 "tova:64,,scope=head",
                                 "tova:64,scope=head,",
                                 "tova:64,=",
                                 "tova:64,scope",
                                 "tova::64",
                                 "tova:64:8",
                                 "tova:+64",
                                 "tova:64 ",
                                 " tova:64",
                                 "tova:64,pinned=+1",
                                 "tova:64,pinned=-0",
                                 "tova:64,pinned==1",
                                 "window+",
                                 "window+:64",
                                 "window++4:64",
                                 "window+4+4:64",
                                 "window+-0:64",
                                 "+4:64",
                                 ":64"}) {
    const auto p = any::parse(text);
    EXPECT_FALSE(p) << text;
    if (!p) {
      EXPECT_EQ(p.reason().message().substr(0, 9 + text.size()), "policy '" + text + "'");
    }
  }
}

TEST(parse, a_policy_from_outside_joins) {
  using mine = any_policy<registry<foreign::busy, tova>>;
  EXPECT_EQ(mine::parse("busy:8,newest=2").value().str(), "busy:8,newest=2");
  EXPECT_EQ(mine::names(), "busy, tova");
  EXPECT_FALSE(mine::parse("window:8"));
  EXPECT_EQ(mine::parse("busy:1,newest=2").code(), errc::bad_string);
}

/// A policy of numbers.
struct fading {
  static constexpr std::string_view name = "fading";
  constexpr evidence wants() const { return {}; }
  int budget = 0;
  scope_kind scope = scope_kind::layer;
  float decay = 0.9f;
  double floor = 0;
  static constexpr auto options =
      std::tuple{policy_option{"decay", &fading::decay}, policy_option{"floor", &fading::floor}};
  constexpr const char* check(int) const { return decay < 1 ? nullptr : "decay < 1"; }
  constexpr protect keeps(int) const { return {}; }
};

TEST(parse, settings_may_be_numbers) {
  using mine = any_policy<registry<fading>>;
  const auto canonical_number = [](const std::string& text) {
    const auto p = mine::parse(text);
    return p ? p->str() : std::string(p.reason().message());
  };
  EXPECT_EQ(canonical_number("fading:4,decay=0.5"), "fading:4,decay=0.5");
  EXPECT_EQ(canonical_number("fading:4,decay=0.90"), "fading:4");
  EXPECT_EQ(canonical_number("fading:4,decay=5e-1,floor=-0.1"), "fading:4,decay=0.5,floor=-0.1");
  EXPECT_EQ(canonical_number("fading:4,decay=0.1,floor=1e-300"), "fading:4,decay=0.1,floor=1e-300");
  EXPECT_EQ(canonical_number("fading:4,floor=0.30000000000000004"), "fading:4,floor=0.30000000000000004");
  for (const std::string text : {"x", "", "nan", "inf", "-inf", "1e999", "+1", "0,5", "1 ", "0x1p3", "1f"})
    EXPECT_FALSE(mine::parse("fading:4,floor=" + text)) << text;
  EXPECT_EQ(canonical_number("fading:4,decay=half"),
            "policy 'fading:4,decay=half': decay=half: 'half' is not a finite number such as 0.5 or 1e-3");
  EXPECT_EQ(mine::parse("fading,decay=1.5").value().with_budget(4).reason().message(),
            "fading: needs decay < 1; got budget=4, decay=1.5, floor=0");
  const auto made = [](const fading& p) { return decider<fading>::make(p, {}); };
  EXPECT_EQ(made({.budget = 4, .floor = std::numeric_limits<double>::infinity()}).code(), errc::bad_policy);
  auto a = made({.budget = 4, .decay = 0.25f}).value();
  EXPECT_FALSE(a.copy_from(made({.budget = 4, .decay = 0.125f}).value()));
  EXPECT_TRUE(a.copy_from(made({.budget = 4, .decay = 0.25f}).value()));
}

TEST(split_policies, at_commas_between_policies) {
  EXPECT_EQ(split_policies("tova:64,scope=head,window:64"),
            (std::vector<std::string>{"tova:64,scope=head", "window:64"}));
  EXPECT_EQ(split_policies("tova"), (std::vector<std::string>{"tova"}));
  EXPECT_EQ(split_policies(""), std::vector<std::string>{});
  EXPECT_EQ(split_policies("h2o,recent=4,normalised=true,full"),
            (std::vector<std::string>{"h2o,recent=4,normalised=true", "full"}));
  EXPECT_EQ(split_policies("tova,"), (std::vector<std::string>{"tova", ""}));
  EXPECT_EQ(split_policies(",tova,,full"), (std::vector<std::string>{"", "tova", "", "full"}));
}

}  // namespace
