// The decoder, compiled once for each SIMD target.

#include <tools/engine/engine.hpp>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tools/engine/decoder.cpp"
#include <hwy/foreach_target.h>
// Highway's own order: foreach_target before highway.
#include <hwy/highway.h>

#include <multistate/model/decoder-inl.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {

class decoder_of_target final : public tools::target_decoder {
 public:
  explicit decoder_of_target(decoder<tools::tool_executor>&& d) noexcept : d_(std::move(d)) {}

  const model_config& config() const noexcept override { return d_.config(); }
  int max_tokens() const noexcept override { return d_.max_tokens(); }
  error reserve(const sequence_memory& memory) noexcept override { return d_.reserve(memory); }
  error forward(std::span<const batch_item> batch) noexcept override { return d_.forward(batch); }
  error prompt(sequence_memory& memory, std::span<const int> tokens, prompt_mode mode, int chunk, logit_rows want,
               float* logits) noexcept override {
    return d_.prompt(memory, tokens, mode, chunk, want, logits);
  }

 private:
  decoder<tools::tool_executor> d_;
};

// HWY_EXPORT needs a name of its own for each function.
result<std::unique_ptr<tools::target_decoder>> make_decoder_of_target(const model_view& model, int most_tokens,
                                                                      tools::tool_executor& exec,
                                                                      product_mode products) {
  auto made = decoder<tools::tool_executor>::make(model, most_tokens, exec, products);
  if (!made) return made.reason();
  return std::unique_ptr<tools::target_decoder>(std::make_unique<decoder_of_target>(std::move(*made)));
}

std::string_view name_of_target() { return hwy::TargetName(HWY_TARGET); }

}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace multistate {

HWY_EXPORT(make_decoder_of_target);
HWY_EXPORT(name_of_target);

namespace tools {

result<any_decoder> any_decoder::make(const model_view& model, int most_tokens, tool_executor& exec,
                                      product_mode products) {
  auto made = HWY_DYNAMIC_DISPATCH(make_decoder_of_target)(model, most_tokens, exec, products);
  if (!made) return made.reason();
  return any_decoder(std::move(*made));
}

std::string_view simd_target() noexcept { return HWY_DYNAMIC_DISPATCH(name_of_target)(); }

}  // namespace tools
}  // namespace multistate
#endif
