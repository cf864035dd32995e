#pragma once

#include <string>
#include <vector>

#include <multistate/types/error.hpp>

/// Recorded tokens through a memory of fixed size, compared with what is recorded of it.
namespace multistate::tools {

/// How far a tensor of the file is from what the memory gives.
struct tensor_difference {
  std::string name;
  double error = 0;      ///< the largest, as `of` says; infinite where a value is not finite and should be another
  double tolerance = 0;  ///< the largest error that is no difference
  std::string of;        ///< what the error is a share of; "": it is absolute
  std::string place;     ///< [t, h, i] of the largest error
  bool must_differ = false;
  bool good = false;  ///< within the tolerance, or beyond it where it must differ
};

struct memory_replay {
  std::string rule;
  int tokens = 0;
  std::vector<tensor_difference> tensors;
  bool same() const;
};

/// Runs the rule that the file's metadata names (sum, delta, gated_delta, delta_product, titans, infini, softmax) over
/// its inputs, and compares every result that it has a tensor for. Errors: no such rule; inputs that are missing,
/// misshaped or not finite; nothing to compare with.
result<memory_replay> replay_memory(const std::string& path);

}  // namespace multistate::tools
