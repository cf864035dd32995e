#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <multistate/types/ids.hpp>
#include <multistate/types/shape.hpp>
#include <multistate/types/task.hpp>

#include <support/data.hpp>

namespace support {

/// Attention behind one virtual call, so that the tests instantiate every policy and format once.
class engine {
 public:
  virtual ~engine() = default;
  virtual void attend(multistate::needs rows, format keys, format values,
                      std::span<const multistate::attention_task> tasks) const noexcept = 0;
};
std::unique_ptr<engine> plain_engine(const dimensions& dims, int window = 0);
/// The library's SIMD attention; scratch for n states and c queries.
std::unique_ptr<engine> simd_engine(const dimensions& dims, int n, int c, int window = 0);

struct run_spec {
  policy_spec policy = {};
  dimensions dims = {};
  int layers = 1;
  format keys = format::f32;
  format values = format::f32;
  multistate::limits room = {};
  std::vector<int> lane_budgets = {};  // empty: all alike
  bool own_arena = false;              // states lie in memory of the test's, which fill_free() knows
  bool with_simd = false;

  std::string text() const;
};

/// Where token t's keys and values go in a narrow format: what attention will see of `x`.
tokens rounded(const tokens& x, format keys, format values);

/// A sequence run through decider, multi_state and step, whatever its policy and formats.
class runner {
 public:
  virtual ~runner() = default;

  /// The next c tokens together, through all layers. out: [layers][c][heads][dv].
  virtual void feed(int c, float* out) = 0;
  virtual void feed_one_shot(int c, float* out) = 0;
  /// Held: the first `accepted` of c tokens stay.
  virtual void feed_held(int c, int accepted, float* out) = 0;
  /// One call of step() for this sequence and others like it; c and out for each.
  virtual void feed_batch(const std::vector<runner*>& others, const std::vector<int>& c,
                          const std::vector<float*>& out) = 0;

  virtual bool undo(int count) = 0;
  virtual bool pin(std::int64_t first, std::int64_t last) = 0;
  virtual bool unpin(std::int64_t first, std::int64_t last) = 0;
  virtual bool copy_from(const runner& other) = 0;
  virtual std::vector<std::byte> save() const = 0;
  virtual bool load(const std::vector<std::byte>& bytes) = 0;
  /// Closes holes and overwrites all memory of states that are not live; bytes 0xff are NaN in every format.
  virtual void fill_free(std::byte with) = 0;
  /// Goes on with other tokens from here.
  virtual void use(const tokens& data) = 0;

  virtual std::int64_t next() const = 0;
  /// Kept positions of the lane of a KV head, increasing.
  virtual std::vector<std::int64_t> kept(int layer, int kv_head) const = 0;
  /// The same by slot; -1 for a hole.
  virtual std::vector<std::int64_t> slots(int layer, int kv_head) const = 0;
  virtual int budget(int layer, int kv_head) const = 0;
  virtual std::size_t bytes() const = 0;

  std::vector<float> fed(int c) {
    std::vector<float> out(out_size(c));
    feed(c, out.data());
    return out;
  }
  std::vector<float> fed_one_shot(int c) {
    std::vector<float> out(out_size(c));
    feed_one_shot(c, out.data());
    return out;
  }
  std::vector<float> fed_held(int c, int accepted) {
    std::vector<float> out(out_size(c));
    feed_held(c, accepted, out.data());
    return out;
  }
  virtual std::size_t out_size(int c) const = 0;
};

std::unique_ptr<runner> make_runner(const run_spec& spec, const tokens& data);

}  // namespace support
