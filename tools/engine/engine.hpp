#pragma once

// The parts that are compiled once for each SIMD target; the best one that this CPU has is chosen at run time.

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include <multistate/decider/any_decider.hpp>
#include <multistate/memory/sequence_memory.hpp>
#include <multistate/model/batch.hpp>
#include <multistate/model/model_view.hpp>
#include <multistate/model/product_mode.hpp>
#include <tools/engine/executor.hpp>

namespace multistate::tools {

/// Name of the SIMD target that runs, as Highway gives it: "AVX2".
std::string_view simd_target() noexcept;

/// decoder<tool_executor> of one SIMD target.
class target_decoder {
 public:
  target_decoder() = default;
  target_decoder(const target_decoder&) = delete;
  target_decoder& operator=(const target_decoder&) = delete;
  virtual ~target_decoder() = default;
  virtual const model_config& config() const noexcept = 0;
  virtual int max_tokens() const noexcept = 0;
  virtual error reserve(const sequence_memory& memory) noexcept = 0;
  virtual error forward(std::span<const batch_item> batch) noexcept = 0;
  virtual error prompt(sequence_memory& memory, std::span<const int> tokens, prompt_mode mode, int chunk,
                       logit_rows want, float* logits) noexcept = 0;
};

/// The reference decoder on the best SIMD target: the calls of decoder<E>.
class any_decoder {
 public:
  /// what `model` points to and `exec` must outlive it; `most_tokens` is the most that one forward() takes. Errors as
  /// decoder::make().
  static result<any_decoder> make(const model_view& model, int most_tokens, tool_executor& exec, product_mode products);

  const model_config& config() const noexcept { return of_->config(); }
  int max_tokens() const noexcept { return of_->max_tokens(); }
  error reserve(const sequence_memory& memory) noexcept { return of_->reserve(memory); }
  [[nodiscard]] error forward(std::span<const batch_item> batch) noexcept { return of_->forward(batch); }
  [[nodiscard]] error prompt(sequence_memory& memory, std::span<const int> tokens, prompt_mode mode, int chunk,
                             logit_rows want = logit_rows::none, float* logits = nullptr) noexcept {
    return of_->prompt(memory, tokens, mode, chunk, want, logits);
  }

 private:
  explicit any_decoder(std::unique_ptr<target_decoder> of) noexcept : of_(std::move(of)) {}
  std::unique_ptr<target_decoder> of_;
};

/// Memory of one layer (of all, at scope model), of a sequence whose states are stored as `format`. Errors as
/// make_layer_memory().
result<std::unique_ptr<layer_memory>> make_layer_memory(weight_format format, const policy_handle& policy,
                                                        const memory_setup& setup, int layer);
/// Memory of a sequence, all layers alike.
result<sequence_memory> make_memory(weight_format format, const policy_handle& policy, const memory_setup& setup);

/// Bytes of one token's key and value in one KV head.
std::size_t state_bytes_of(weight_format format, const shape& dims) noexcept;

}  // namespace multistate::tools
