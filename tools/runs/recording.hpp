#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <multistate/decider/any_decider.hpp>
#include <multistate/io/safetensors.hpp>
#include <multistate/types/error.hpp>
#include <multistate/model/model_view.hpp>
#include <multistate/types/shape.hpp>

namespace multistate::tools {

/// Recorded vectors of some layers, keys and queries already rotated.
struct recording {
  shape dims;
  int layers = 1;        ///< L
  int tokens = 0;        ///< T
  bool has_q = true;     ///< else q is zeros, and no policy that looks at rows can run
  bool has_v = true;     ///< else v is zeros
  std::vector<float> q;  ///< [L][T][H][dk]
  std::vector<float> k;  ///< [L][T][Hkv][dk]
  std::vector<float> v;  ///< [L][T][Hkv][dv]
  /// [L][T][Hkv][dk] the keys before they were rotated, for policies that look at keys; empty: not recorded.
  std::vector<float> k_pre;

  double theta = 0;  ///< base of the rotary angles of k and q, for policies that want them; 0: not recorded

  /// Whether there is anything to attend.
  bool attended() const noexcept { return has_q && has_v; }
};

/// How the tokens are fed.
struct feeding {
  int prompt = 0;  ///< the first so many in one call, or in chunks when there is a chunk; 0: none
  int chunk = 0;   ///< tokens a call; 0: one
  int first = 0;   ///< tokens of the first call where it differs; 0: it does not
  int tokens = 0;  ///< how many are fed
};

/// What a policy made of it: the states after each call that left no lane above its budget.
struct outcome {
  std::vector<float> out;                       ///< [L][tokens][H][dv]
  std::vector<std::int32_t> ends;               ///< [entries] tokens consumed
  std::size_t lanes = 1;                        ///< of all layers, or those that they share
  std::vector<std::vector<std::int32_t>> kept;  ///< [entries * lanes] positions, increasing
  std::vector<int> budgets;                     ///< [lanes] at the end

  /// States of the largest lane, or `least`.
  std::size_t width(std::size_t least) const noexcept;
};

/// What a file says of how it was made, and what came of it; what is missing is empty.
struct expectation {
  std::string policy;            ///< metadata
  std::optional<feeding> calls;  ///< tensors prompt, chunk, first; as many tokens as the last step_end
  std::optional<int> layers;
  std::vector<std::int32_t> kept;  ///< [entries][lanes][width]
  std::vector<std::size_t> kept_shape;
  std::vector<std::int32_t> ends;
  std::vector<std::int32_t> budgets;
  std::vector<float> out;
  std::vector<std::size_t> out_shape;
};

/// q [T,H,dk], k [T,Hkv,dk], v [T,Hkv,dv], or with a layer in front, of which `layers` are taken (0: all). k_pre and
/// theta are taken from either file; "" is none. Errors name the file and the tensor.
result<recording> read_recording(const std::string& path, const std::string& beside, int layers);
/// Errors name the file and the tensor.
result<expectation> read_expectation(const std::string& path);

/// Feeds a recording through the memory of a sequence. Errors: what the format can't hold, a policy that looks at
/// what was not recorded, a call that there is no room for, and those of the memory.
result<outcome> replay_recording(const policy_handle& policy, weight_format format, const recording& r,
                                 const feeding& feed);

}  // namespace multistate::tools
