// Products by ggml's CPU backend, over memory that is not its own.

#include <ggml-cpu.h>
#include <ggml.h>

#include <cstdint>
#include <vector>

#include <bench/peer.hpp>

namespace {

ggml_type type_of(std::string_view format) {
  for (int t = 0; t < GGML_TYPE_COUNT; ++t) {
    const auto type = static_cast<ggml_type>(t);
    const char* name = ggml_type_name(type);
    if (name == nullptr || ggml_blck_size(type) == 0) continue;
    std::string_view theirs = name;
    if (theirs.size() != format.size()) continue;
    bool same = true;
    for (std::size_t i = 0; i < format.size(); ++i)
      same = same && (theirs[i] | 0x20) == (format[i] | 0x20);  // theirs say q4_K
    if (same && format != "i8") return type;
  }
  return GGML_TYPE_COUNT;
}

class ggml_peer final : public bench::peer {
 public:
  ggml_peer(ggml_type type, std::size_t n, std::size_t columns, float* x, float* y, int threads)
      : context_(ggml_init({std::size_t{1} << 20, nullptr, true})) {
    const auto size = static_cast<std::int64_t>(n);
    weights_ = ggml_new_tensor_2d(context_, type, size, size);
    ggml_tensor* in = ggml_new_tensor_2d(context_, GGML_TYPE_F32, size, static_cast<std::int64_t>(columns));
    ggml_tensor* out = ggml_mul_mat(context_, weights_, in);
    in->data = x;
    out->data = y;
    graph_ = ggml_new_graph(context_);
    ggml_build_forward_expand(graph_, out);
    ggml_threadpool_params params = ggml_threadpool_params_default(threads);
    params.poll = 0;  // its threads sleep between products, for ours are measured there
    pool_ = ggml_threadpool_new(&params);
    plan_ = ggml_graph_plan(graph_, threads, pool_);
    work_.resize(plan_.work_size);
    plan_.work_data = work_.data();
  }
  ggml_peer(const ggml_peer&) = delete;
  ggml_peer& operator=(const ggml_peer&) = delete;
  ~ggml_peer() override {
    ggml_threadpool_free(pool_);
    ggml_free(context_);
  }

  void multiply(const void* weights) override {
    weights_->data = const_cast<void*>(weights);  // it only reads them
    ggml_graph_compute(graph_, &plan_);
  }

 private:
  ggml_context* context_;
  ggml_tensor* weights_ = nullptr;
  ggml_cgraph* graph_ = nullptr;
  ggml_threadpool* pool_ = nullptr;
  ggml_cplan plan_{};
  std::vector<std::uint8_t> work_;
};

}  // namespace

std::unique_ptr<bench::peer> bench::make_peer(std::string_view format, std::size_t n, std::size_t columns, float* x,
                                              float* y, int threads) {
  ggml_cpu_init();
  const ggml_type type = type_of(format);
  if (type == GGML_TYPE_COUNT) return nullptr;
  return std::make_unique<ggml_peer>(type, n, columns, x, y, threads);
}
