#pragma once

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <multistate/eval/sample.hpp>
#include <multistate/model/config.hpp>
#include <tools/runs/journal.hpp>

/// A comparison in parts, each on a machine of its own: which windows a part has, the file that it writes, and how the
/// files become one comparison again. Errors end the program as usage errors.
namespace multistate::tools {

/// "i/n": the i-th of n parts, from 1.
struct shard {
  static constexpr int most = 100000;
  int number = 1, of = 1;
};
shard parse_shard(const std::string& text);

/// The windows [first, last) of a part: as many in each as there can be.
struct window_range {
  std::size_t first = 0, last = 0;
};
window_range windows_of(const shard& part, std::size_t windows) noexcept;

/// What has to be the same in all parts, and in the run that joins them.
struct part_of_comparison {
  nlohmann::ordered_json command;  ///< arguments that the figures depend on, by their flags
  std::uint64_t settings = 0;      ///< hash of model, texts, policies and all else that the figures depend on
  std::size_t windows = 0;         ///< of the whole comparison
};

/// The file of a part: what it says of itself, and the records that `done` holds of its windows.
nlohmann::ordered_json part_json(const shard& part, const part_of_comparison& whole,
                                 const std::vector<std::string>& command_line, const journal& done);

/// Parts as their files hold them, in order.
class parts {
 public:
  /// Refuses, by name, files that are no parts, parts of another SIMD target, version, seed or command than the first
  /// one's, and parts that are missing or there twice.
  static parts read(std::span<const std::string> files);

  const nlohmann::ordered_json& command() const noexcept { return all_[0].content["command"]; }
  /// Hands all records to a journal, from which the comparison goes on. Refuses parts of another model or text, and
  /// those that lack a window.
  void join(const part_of_comparison& whole, journal& into);

 private:
  struct part {
    std::string path;
    nlohmann::ordered_json content;
    shard which;
  };
  std::vector<part> all_;
};

/// All of a model's config, as a fingerprint of it holds it.
nlohmann::ordered_json config_json(const model_config& config);

}  // namespace multistate::tools
