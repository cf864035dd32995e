#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <multistate/format/formats.hpp>
#include <multistate/io/model_file.hpp>
#include <multistate/policies.hpp>
#include <unit/model/models.hpp>

namespace {

using namespace multistate;

/// A model's matrices as q8_0; norms stay where they are.
struct q8_model {
  std::vector<std::vector<std::byte>> memory;
  model_view view;

  explicit q8_model(const model_view& from) : view(from) {
    const model_config& c = from.config;
    const auto pack = [this](matrix_view& m, std::size_t out, std::size_t in) {
      const std::size_t stride = row_bytes(m.format, in);
      std::vector<float> row(in);
      std::vector<std::byte>& to = memory.emplace_back(out * row_bytes(weight_format::q8_0, in));
      for (std::size_t r = 0; r < out; ++r) {
        load_row(m.format, row.data(), m.rows + r * stride, in);
        for (std::size_t i = 0; i < in; i += q8_0::elements)
          q8_0::store(to.data() + (r * in + i) / q8_0::elements * q8_0::bytes, row.data() + i);
      }
      m = {to.data(), weight_format::q8_0};
    };
    pack(view.embedding, to_size(c.vocab), to_size(c.hidden));
    pack(view.head, to_size(c.vocab), to_size(c.hidden));
    for (layer_view& l : view.layers)
      for (const auto& m : detail::layer_matrices(c)) pack(l.*m.view, m.out, m.in);
  }
};

double mean_nll(const std::vector<float>& logits, const std::vector<int>& ids, std::size_t vocab) {
  double sum = 0;
  for (std::size_t t = 0; t + 1 < ids.size(); ++t) {
    const float* l = logits.data() + t * vocab;
    double total = 0;
    for (std::size_t i = 0; i < vocab; ++i) total += std::exp(double{l[i]});
    sum += std::log(total) - double{l[ids[t + 1]]};
  }
  return sum / static_cast<double>(ids.size() - 1);
}

TEST(fast_products, change_the_loss_of_the_demo_model_little) {
  const std::string examples = std::string(MULTISTATE_TEST_DATA) + "/../../examples/data";
  const auto demo = load_model(examples + "/demo_model");
  ASSERT_TRUE(demo) << demo.reason().message();
  std::ifstream file(examples + "/story.txt", std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::vector<int> ids{256};
  for (std::size_t i = 0; i < 400; ++i) ids.push_back(static_cast<unsigned char>(text.at(i)));
  const q8_model packed(*demo);
  const auto nll = [&](product_mode mode, std::size_t chunk) {
    auto d = decoder<>::make(packed.view, 50, mode).value();
    limits room;
    room.chunk = 50;
    auto memory = make_memory<f32>(full{.budget = 401}, setup_for(demo->config, room)).value();
    return mean_nll(support::feed(d, memory, ids, chunk), ids, to_size(demo->config.vocab));
  };
  const double exact = nll(product_mode::exact, 50);
  EXPECT_LT(exact, 2.0);  // the text is one that the model knows how to read
  EXPECT_NEAR(nll(product_mode::fast, 50), exact, 2e-3);
  EXPECT_NEAR(nll(product_mode::fast, 1), exact, 2e-3);
  EXPECT_NE(nll(product_mode::fast, 50), exact);
}

}  // namespace
