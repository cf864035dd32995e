#pragma once

#include <cstddef>
#include <cstring>

#include <multistate/policy/asked.hpp>

namespace multistate {

namespace detail {

/// What a decider asks of a policy, as functions of its settings.
struct policy_functions {
  std::string_view (*name)(const void*) noexcept;
  int (*budget)(const void*) noexcept;
  scope_kind (*scope)(const void*) noexcept;
  bool (*unbounded)(const void*) noexcept;
  evidence (*wants)(const void*, const shape&) noexcept;
  bool (*observes_rows)(const void*) noexcept;
  error (*check)(const void*, int) noexcept;
  protect (*keeps)(const void*, phase, int, const moment&) noexcept;
  bool (*due)(const void*, const moment&, bool) noexcept;
  bool (*waits)(const void*) noexcept;
  int (*room)(const void*) noexcept;
  void (*observe)(const void*, const lane_ref&, const rows&) noexcept;
  std::span<const float> (*worth)(const void*, const lane_ref&, const rows&) noexcept;
  void (*pool)(const void*, const lane_ref&, std::span<float>) noexcept;  ///< null: it has none
  void (*enter)(const void*, const lane_ref&, slot, std::span<const float>, std::span<const float>,
                std::span<const float>) noexcept;
  frame (*frame_at)(const void*, phase) noexcept;
  std::uint64_t (*bits)(const void*) noexcept;
};

template <class P>
const asked<P>& asked_of(const void* settings) noexcept {
  return *static_cast<const asked<P>*>(settings);
}

template <class P>
inline constexpr policy_functions functions_of = {
    [](const void* p) noexcept { return asked_of<P>(p).name(); },
    [](const void* p) noexcept { return asked_of<P>(p).budget(); },
    [](const void* p) noexcept { return asked_of<P>(p).scope(); },
    [](const void* p) noexcept { return asked_of<P>(p).unbounded(); },
    [](const void* p, const shape& lane) noexcept { return asked_of<P>(p).wants(lane); },
    [](const void* p) noexcept { return asked_of<P>(p).observes_rows(); },
    [](const void* p, int budget) noexcept { return asked_of<P>(p).check(budget); },
    [](const void* p, phase when, int budget, const moment& m) noexcept {
      return asked_of<P>(p).keeps(when, budget, m);
    },
    [](const void* p, const moment& m, bool usual) noexcept { return asked_of<P>(p).due(m, usual); },
    [](const void* p) noexcept { return asked_of<P>(p).waits(); },
    [](const void* p) noexcept { return asked_of<P>(p).room(); },
    [](const void* p, const lane_ref& lane, const rows& r) noexcept { asked_of<P>(p).observe(lane, r); },
    [](const void* p, const lane_ref& lane, const rows& r) noexcept { return asked_of<P>(p).worth(lane, r); },
    pools<P>
        ? [](const void* p, const lane_ref& lane, std::span<float> worth) noexcept { asked_of<P>(p).pool(lane, worth); }
        : static_cast<void (*)(const void*, const lane_ref&, std::span<float>) noexcept>(nullptr),
    [](const void* p, const lane_ref& lane, slot s, std::span<const float> k, std::span<const float> v,
       std::span<const float> q) noexcept { asked_of<P>(p).enter(lane, s, k, v, q); },
    [](const void* p, phase when) noexcept { return asked_of<P>(p).frame_at(when); },
    [](const void* p) noexcept { return asked_of<P>(p).bits(); }};

}  // namespace detail

/// A policy's settings whatever its type, as a value: for programs and bindings that are compiled once and take any
/// policy. Empty when default-constructed.
class policy_value {
 public:
  /// Most bytes that a policy's settings may have.
  static constexpr std::size_t most_bytes = 192;

  policy_value() = default;
  template <policy P>
  explicit policy_value(const P& settings) noexcept : functions_(&detail::functions_of<P>) {
    static_assert(sizeof(P) <= most_bytes && alignof(P) <= alignof(std::max_align_t),
                  "a policy's settings take at most policy_value::most_bytes");
    const detail::asked<P> asked{settings};
    std::memcpy(bytes_, &asked, sizeof asked);
  }

  bool empty() const noexcept { return functions_ == nullptr; }
  const detail::policy_functions& functions() const noexcept { return *functions_; }
  const void* data() const noexcept { return bytes_; }
  void* data() noexcept { return bytes_; }

 private:
  const detail::policy_functions* functions_ = nullptr;
  alignas(std::max_align_t) std::byte bytes_[most_bytes] = {};
};

namespace detail {

template <>
inline constexpr bool stands_for_policies<policy_value> = true;

template <>
struct asked<policy_value> {
  policy_value of{};

  static constexpr bool rows_known = false;
  static constexpr needs rows = needs::nothing;
  static constexpr bool may_pool = true, may_observe = true, may_enter = true, may_score = true, may_frame = true,
                        may_read = true;

  std::string_view name() const noexcept { return f().name(at()); }
  int budget() const noexcept { return f().budget(at()); }
  scope_kind scope() const noexcept { return f().scope(at()); }
  bool unbounded() const noexcept { return f().unbounded(at()); }
  evidence wants(const shape& lane = {}) const noexcept { return f().wants(at(), lane); }
  bool observes_rows() const noexcept { return f().observes_rows(at()); }
  error check(int budget) const noexcept { return f().check(at(), budget); }
  protect keeps(phase when, int budget, const moment& m = {}) const noexcept {
    return f().keeps(at(), when, budget, m);
  }
  bool due(const moment& m, bool usual) const noexcept { return f().due(at(), m, usual); }
  bool waits() const noexcept { return f().waits(at()); }
  int room() const noexcept { return f().room(at()); }
  void observe(const lane_ref& lane, const multistate::rows& r) const noexcept { f().observe(at(), lane, r); }
  std::span<const float> worth(const lane_ref& lane, const multistate::rows& r) const noexcept {
    return f().worth(at(), lane, r);
  }
  bool pools_worths() const noexcept { return f().pool != nullptr; }
  void pool(const lane_ref& lane, std::span<float> worth) const noexcept {
    if (pools_worths()) f().pool(at(), lane, worth);
  }
  void enter(const lane_ref& lane, slot s, std::span<const float> key, std::span<const float> value,
             std::span<const float> query) const noexcept {
    f().enter(at(), lane, s, key, value, query);
  }
  frame frame_at(phase when) const noexcept { return f().frame_at(at(), when); }
  std::uint64_t bits() const noexcept { return f().bits(at()); }

 private:
  const policy_functions& f() const noexcept { return of.functions(); }
  const void* at() const noexcept { return of.data(); }
};

}  // namespace detail

}  // namespace multistate
