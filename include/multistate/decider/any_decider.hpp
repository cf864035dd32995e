#pragma once

// Policies and deciders whose type is not known: for programs, bindings and libraries that are compiled once and take
// any policy. An engine that knows its policy uses decider<P>.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <multistate/decider/decider.hpp>
#include <multistate/policy/registry.hpp>

namespace multistate {

namespace detail {

/// The members of decider<P> that whoever runs it calls; decider.hpp says what each does.
class decider_interface {
 public:
  decider_interface() = default;
  decider_interface(const decider_interface&) = delete;
  decider_interface& operator=(const decider_interface&) = delete;
  virtual ~decider_interface() = default;

  virtual const decision& append(int c, phase when, bool held) noexcept = 0;
  virtual std::span<const slot> slots(int lane) const noexcept = 0;
  virtual void enter(int lane, int j, std::span<const float> key, std::span<const float> value,
                     std::span<const float> query) noexcept = 0;
  virtual bool needs_rows() const noexcept = 0;
  virtual void observe(int lane, const rows& r) noexcept = 0;
  virtual const decision& reduce(int accepted) noexcept = 0;
  virtual bool can_undo(int tokens) const noexcept = 0;
  virtual bool undo(int tokens) noexcept = 0;
  virtual const decision& last() const noexcept = 0;
  virtual fault_kind fault() const noexcept = 0;
  virtual void clear_fault() noexcept = 0;
  virtual fault_kind refusal(int c, bool held) const noexcept = 0;
  virtual const decision& fail(fault_kind why) noexcept = 0;
  virtual bool pin(position first, position last) noexcept = 0;
  virtual bool unpin(position first, position last) noexcept = 0;
  virtual lane_plan plan() const noexcept = 0;
  virtual int budget(int lane) const noexcept = 0;
  virtual int capacity(int lane) const noexcept = 0;
  virtual int live(int lane) const noexcept = 0;
  virtual std::span<const position> positions(int lane) const noexcept = 0;
  virtual position next_position() const noexcept = 0;
  virtual std::uint64_t moment() const noexcept = 0;
  virtual std::size_t rank_order(int lane, std::span<slot> out) const noexcept = 0;
  virtual void ranks(int lane, std::span<std::uint32_t> by_slot) const noexcept = 0;
  virtual std::size_t bytes() const noexcept = 0;
  /// Precondition: type() is the same.
  virtual bool copy_from(const decider_interface& other) noexcept = 0;
  virtual void restart(int layer) noexcept = 0;
  virtual std::size_t save_bytes() const noexcept = 0;
  virtual void save(std::span<std::byte> out) const noexcept = 0;
  virtual error load(std::span<const std::byte> in) noexcept = 0;
  /// The same for the same policy.
  virtual const void* type() const noexcept = 0;
};

template <policy P>
inline constexpr char policy_type = 0;

template <policy P>
class decider_behind final : public decider_interface {
 public:
  explicit decider_behind(decider<P>&& d) noexcept : d_(std::move(d)) {}

  const decision& append(int c, phase when, bool held) noexcept override { return d_.append(c, when, held); }
  std::span<const slot> slots(int lane) const noexcept override { return d_.slots(lane); }
  void enter(int lane, int j, std::span<const float> key, std::span<const float> value,
             std::span<const float> query) noexcept override {
    d_.enter(lane, j, key, value, query);
  }
  bool needs_rows() const noexcept override { return d_.needs_rows(); }
  void observe(int lane, const rows& r) noexcept override { d_.observe(lane, r); }
  const decision& reduce(int accepted) noexcept override { return d_.reduce(accepted); }
  bool can_undo(int tokens) const noexcept override { return d_.can_undo(tokens); }
  bool undo(int tokens) noexcept override { return d_.undo(tokens); }
  const decision& last() const noexcept override { return d_.last(); }
  fault_kind fault() const noexcept override { return d_.fault(); }
  void clear_fault() noexcept override { d_.clear_fault(); }
  fault_kind refusal(int c, bool held) const noexcept override { return d_.refusal(c, held); }
  const decision& fail(fault_kind why) noexcept override { return d_.fail(why); }
  bool pin(position first, position last) noexcept override { return d_.pin(first, last); }
  bool unpin(position first, position last) noexcept override { return d_.unpin(first, last); }
  lane_plan plan() const noexcept override { return d_.plan(); }
  int budget(int lane) const noexcept override { return d_.budget(lane); }
  int capacity(int lane) const noexcept override { return d_.capacity(lane); }
  int live(int lane) const noexcept override { return d_.live(lane); }
  std::span<const position> positions(int lane) const noexcept override { return d_.positions(lane); }
  position next_position() const noexcept override { return d_.next_position(); }
  std::uint64_t moment() const noexcept override { return d_.moment(); }
  std::size_t rank_order(int lane, std::span<slot> out) const noexcept override { return d_.rank_order(lane, out); }
  void ranks(int lane, std::span<std::uint32_t> by_slot) const noexcept override { d_.ranks(lane, by_slot); }
  std::size_t bytes() const noexcept override { return d_.bytes(); }
  bool copy_from(const decider_interface& other) noexcept override {
    return d_.copy_from(static_cast<const decider_behind&>(other).d_);
  }
  void restart(int layer) noexcept override { d_.restart(layer); }
  std::size_t save_bytes() const noexcept override { return d_.save_bytes(); }
  void save(std::span<std::byte> out) const noexcept override { d_.save(out); }
  error load(std::span<const std::byte> in) noexcept override { return d_.load(in); }
  const void* type() const noexcept override { return &policy_type<P>; }

 private:
  decider<P> d_;
};

}  // namespace detail

/// A decider<P> whose policy is not known to whoever runs it: the same calls, each through one indirect one. Made by
/// policy_handle::make_decider(). Empty and of no use when default-constructed or moved from.
class any_decider {
 public:
  any_decider() = default;
  any_decider(std::unique_ptr<detail::decider_interface> of, scope_kind scope, needs wants, bool unbounded,
              int lanes) noexcept
      : of_(std::move(of)), lanes_(lanes), wants_(wants), scope_(scope), unbounded_(unbounded) {}

  scope_kind scope() const noexcept { return scope_; }
  needs wants() const noexcept { return wants_; }
  bool unbounded() const noexcept { return unbounded_; }
  int lanes() const noexcept { return lanes_; }

  const decision& append(int c, phase when = phase::decode, bool held = false) noexcept {
    return of_->append(c, when, held);
  }
  std::span<const slot> slots(int lane) const noexcept { return of_->slots(lane); }
  void enter(int lane, int j, std::span<const float> key, std::span<const float> value,
             std::span<const float> query) noexcept {
    of_->enter(lane, j, key, value, query);
  }
  bool needs_rows() const noexcept { return of_->needs_rows(); }
  void observe(int lane, const rows& r) noexcept { of_->observe(lane, r); }
  const decision& reduce(int accepted = -1) noexcept { return of_->reduce(accepted); }
  bool can_undo(int tokens) const noexcept { return of_->can_undo(tokens); }
  bool undo(int tokens) noexcept { return of_->undo(tokens); }
  const decision& last() const noexcept { return of_->last(); }
  fault_kind fault() const noexcept { return of_->fault(); }
  void clear_fault() noexcept { of_->clear_fault(); }
  fault_kind refusal(int c, bool held = false) const noexcept { return of_->refusal(c, held); }
  const decision& fail(fault_kind why) noexcept { return of_->fail(why); }
  bool pin(position first, position last) noexcept { return of_->pin(first, last); }
  bool unpin(position first, position last) noexcept { return of_->unpin(first, last); }
  lane_plan plan() const noexcept { return of_->plan(); }
  int lane_of(int kv_head) const noexcept { return multistate::lane_of(scope_, kv_head); }
  int budget(int lane) const noexcept { return of_->budget(lane); }
  int capacity(int lane) const noexcept { return of_->capacity(lane); }
  int live(int lane) const noexcept { return of_->live(lane); }
  std::span<const position> positions(int lane) const noexcept { return of_->positions(lane); }
  position next_position() const noexcept { return of_->next_position(); }
  std::uint64_t moment() const noexcept { return of_->moment(); }
  std::size_t rank_order(int lane, std::span<slot> out) const noexcept { return of_->rank_order(lane, out); }
  void ranks(int lane, std::span<std::uint32_t> by_slot) const noexcept { of_->ranks(lane, by_slot); }
  std::size_t bytes() const noexcept { return of_->bytes(); }
  bool copy_from(const any_decider& other) noexcept {
    return of_->type() == other.of_->type() && of_->copy_from(*other.of_);
  }
  void restart(int layer) noexcept { of_->restart(layer); }
  std::size_t save_bytes() const noexcept { return of_->save_bytes(); }
  void save(std::span<std::byte> out) const noexcept { of_->save(out); }
  error load(std::span<const std::byte> in) noexcept { return of_->load(in); }

 private:
  std::unique_ptr<detail::decider_interface> of_;
  int lanes_ = 0;
  needs wants_ = needs::nothing;
  scope_kind scope_ = scope_kind::layer;
  bool unbounded_ = false;
};

class policy_handle;

namespace detail {

/// A policy's settings, as policy_handle needs them.
class settings_interface {
 public:
  settings_interface() = default;
  settings_interface(const settings_interface&) = delete;
  settings_interface& operator=(const settings_interface&) = delete;
  virtual ~settings_interface() = default;
  virtual std::string_view name() const noexcept = 0;
  virtual int budget() const noexcept = 0;
  virtual scope_kind scope() const noexcept = 0;
  virtual needs wants() const noexcept = 0;
  virtual bool unbounded() const noexcept = 0;
  virtual std::optional<std::uint64_t> seed() const noexcept = 0;
  virtual result<policy_handle> with_budget(int states) const = 0;
  virtual policy_handle with_seed(std::uint64_t seed) const = 0;
  virtual std::string text(bool with_budget) const = 0;
  virtual result<any_decider> make_decider(const placement& where, const limits& room,
                                           std::span<const int> lane_budgets) const = 0;
};

}  // namespace detail

/// A policy with its settings, whatever its type; copies share them.
class policy_handle {
 public:
  template <policy P>
  explicit policy_handle(const P& settings);

  std::string_view name() const noexcept { return of_->name(); }
  /// States a lane; 0: not said.
  int budget() const noexcept { return of_->budget(); }
  scope_kind scope() const noexcept { return of_->scope(); }
  needs wants() const noexcept { return of_->wants(); }
  bool unbounded() const noexcept { return of_->unbounded(); }
  /// The value of its setting "seed", where it has one.
  std::optional<std::uint64_t> seed() const noexcept { return of_->seed(); }
  /// The same settings with another budget, or why that can't be.
  result<policy_handle> with_budget(int states) const { return of_->with_budget(states); }
  /// The same settings with another seed. Precondition: seed().
  policy_handle with_seed(std::uint64_t seed) const { return of_->with_seed(seed); }
  /// Canonical form: settings that are not the default, in the order of the policy's options.
  std::string str() const { return of_->text(true); }
  std::string str_without_budget() const { return of_->text(false); }
  /// As decider<P>::make().
  result<any_decider> make_decider(const placement& where, const limits& room = {},
                                   std::span<const int> lane_budgets = {}) const {
    return of_->make_decider(where, room, lane_budgets);
  }

 private:
  std::shared_ptr<const detail::settings_interface> of_;
};

namespace detail {

template <policy P>
class settings_behind final : public settings_interface {
  using alone = any_policy<registry<P>>;

 public:
  explicit settings_behind(const P& settings) noexcept : p_(settings) {}

  std::string_view name() const noexcept override { return P::name; }
  int budget() const noexcept override { return p_.budget; }
  scope_kind scope() const noexcept override { return p_.scope; }
  needs wants() const noexcept override { return P::wants; }
  bool unbounded() const noexcept override { return has_no_budget<P>; }
  std::optional<std::uint64_t> seed() const noexcept override {
    std::optional<std::uint64_t> found;
    P copy = p_;
    with_seed_of(copy, [&](std::uint64_t& seed) { found = seed; });
    return found;
  }
  result<policy_handle> with_budget(int states) const override {
    P p = p_;
    p.budget = states;
    if (const error e = check_settings(p, states)) return e;
    return policy_handle(p);
  }
  policy_handle with_seed(std::uint64_t seed) const override {
    P p = p_;
    with_seed_of(p, [&](std::uint64_t& to) { to = seed; });
    return policy_handle(p);
  }
  std::string text(bool with_budget) const override {
    return with_budget ? alone(p_).str() : alone(p_).str_without_budget();
  }
  result<any_decider> make_decider(const placement& where, const limits& room,
                                   std::span<const int> lane_budgets) const override {
    auto made = decider<P>::make(p_, where, room, lane_budgets);
    if (!made) return made.reason();
    const int lanes = made->lanes();
    std::unique_ptr<decider_interface> of(new (std::nothrow) decider_behind<P>(std::move(*made)));
    if (of == nullptr) return error(errc::out_of_memory, P::name, ": no memory for a decider");
    return any_decider(std::move(of), p_.scope, P::wants, has_no_budget<P>, lanes);
  }

 private:
  template <class F>
  static void with_seed_of(P& p, const F& f) {
    std::apply(
        [&](const auto&... o) {
          [[maybe_unused]] const auto one = [&](const auto& option) {
            if constexpr (std::is_same_v<std::remove_cvref_t<decltype(p.*option.member)>, std::uint64_t>)
              if (option.key == "seed") f(p.*option.member);
          };
          (one(o), ...);
        },
        P::options);
  }
  P p_;
};

}  // namespace detail

template <policy P>
policy_handle::policy_handle(const P& settings) : of_(std::make_shared<detail::settings_behind<P>>(settings)) {}

/// A policy that a program knows by name.
struct policy_entry {
  std::string_view name;
  bool takes_number = false;                              ///< `name+N`
  result<policy_handle> (*parse)(std::string_view text);  ///< `name[+i][:budget][,key=value]...`
};

/// The entry of one policy type.
template <policy P>
policy_entry entry_of() noexcept {
  bool takes_number = false;
  std::apply([&](const auto&... o) { takes_number = ((o.key == "+") || ... || false); }, P::options);
  return {P::name, takes_number, [](std::string_view text) -> result<policy_handle> {
            auto parsed = any_policy<registry<P>>::parse(text);
            if (!parsed) return parsed.reason();
            return parsed->visit([](const P& p) { return policy_handle(p); });
          }};
}

/// The entries of a registry, in its order.
template <policy... P>
std::vector<policy_entry> entries_of(registry<P...>) {
  return {entry_of<P>()...};
}

}  // namespace multistate
