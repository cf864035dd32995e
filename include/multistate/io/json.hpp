#pragma once

#include <concepts>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <multistate/io/file.hpp>

namespace multistate::detail {

/// A value as it stands in the file, for messages; in ASCII, whatever the file holds. A template, so that nothing turns
/// into JSON to get here.
template <std::same_as<nlohmann::json> Json>
std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (text.size() > 60) {
    text.resize(57);
    text += "...";
  }
  return text;
}

/// Takes a value apart from its leaves on. The destructor of a value that is not empty allocates, and where there is no
/// memory it ends the program.
inline void take_apart(nlohmann::json& value) noexcept {
  if (auto* object = value.get_ptr<nlohmann::json::object_t*>(); object != nullptr) {
    for (auto& member : *object) take_apart(member.second);
    object->clear();
  } else if (auto* array = value.get_ptr<nlohmann::json::array_t*>(); array != nullptr) {
    for (auto& element : *array) take_apart(element);
    array->clear();
  }
}
class emptied_at_end {
 public:
  explicit emptied_at_end(nlohmann::json& value) noexcept : value_(&value) {}
  emptied_at_end(const emptied_at_end&) = delete;
  emptied_at_end& operator=(const emptied_at_end&) = delete;
  ~emptied_at_end() { take_apart(*value_); }

 private:
  nlohmann::json* value_;
};

/// What the readers of JSON have in common: the depth is bounded, and the first fault ends the reading, which `what`
/// then says.
class json_events : public nlohmann::json_sax<nlohmann::json> {
 public:
  static constexpr int deepest = 64;
  std::string complaint;

  bool parse_error(std::size_t at, const std::string&, const nlohmann::detail::exception&) override {
    return fail("is not JSON at byte " + std::to_string(at));
  }

 protected:
  bool fail(std::string message) {
    complaint = std::move(message);
    return false;
  }
  bool deeper() {
    return ++depth_ <= deepest || fail("is nested deeper than " + std::to_string(deepest) + ", which no such file is");
  }
  bool higher() { return --depth_ >= 0; }
  int depth() const noexcept { return depth_; }

 private:
  int depth_ = 0;
};

/// Builds the value. A key that an object has twice is a fault: readers differ in which of the two they take; so are
/// more than `most` values, each of which takes some 80 bytes at worst.
class json_builder final : public json_events {
 public:
  explicit json_builder(std::uint64_t most) : most_(most) {}
  nlohmann::json root;

  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(number_integer_t value) override { return put(value); }
  bool number_unsigned(number_unsigned_t value) override { return put(value); }
  bool number_float(number_float_t value, const string_t&) override { return put(value); }
  bool string(string_t& value) override { return put(std::move(value)); }
  bool binary(binary_t&) override { return fail("is not JSON"); }
  bool start_object(std::size_t) override { return open(nlohmann::json::object()); }
  bool start_array(std::size_t) override { return open(nlohmann::json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    const auto [at, fresh] = open_.back()->get_ref<nlohmann::json::object_t&>().emplace(std::move(name), nullptr);
    member_ = &at->second;
    return fresh || fail("has the key " + shown(std::string_view(at->first)) + " twice, must have it once");
  }

 private:
  nlohmann::json* place(nlohmann::json&& value) {
    if (open_.empty()) return &(root = std::move(value));
    if (!open_.back()->is_array()) return &(*member_ = std::move(value));
    open_.back()->push_back(std::move(value));
    return &open_.back()->back();
  }
  bool put(nlohmann::json value) { return one_more() && place(std::move(value)) != nullptr; }
  bool one_more() { return ++values_ <= most_ || fail("has more than " + std::to_string(most_) + " values"); }
  bool open(nlohmann::json value) {
    if (!one_more() || !deeper()) return false;
    open_.push_back(place(std::move(value)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return higher();
  }

  emptied_at_end emptied_{root};
  std::uint64_t most_, values_ = 0;
  std::vector<nlohmann::json*> open_;  // from the root to where the next value goes
  nlohmann::json* member_ = nullptr;   // of the object at the end of open_
};

/// Feeds a file to a reader. Errors: not JSON, whatever the reader refuses.
inline error read_json_events(const file_bytes& file, json_events& reader) {
  const auto& path = file.path();
  if (is_lfs_pointer(file.bytes())) return lfs_pointer(path);
  const char* text = reinterpret_cast<const char*>(file.bytes().data());
  if (file.size() == 0) return file_error(path, "is empty, must be JSON");
  if (!nlohmann::json::sax_parse(text, text + file.size(), &reader)) return file_error(path, reader.complaint);
  return {};
}

/// Reads a file that holds one JSON object. Errors: longer than `most` bytes, not JSON, nested deeper than 64, an
/// object with a key twice, more values than a million and one for each 8 bytes.
inline result<nlohmann::json> read_json(const std::filesystem::path& path,
                                        std::uint64_t most = std::uint64_t{1} << 20) {
  const auto file = file_bytes::open(path, most);
  if (!file) return file.reason();
  json_builder built((std::uint64_t{1} << 20) + file->size() / 8);
  if (const error e = read_json_events(*file, built)) return e;
  if (!built.root.is_object()) return file_error(path, "holds ", shown(built.root), ", must be a JSON object");
  return std::move(built.root);
}

}  // namespace multistate::detail
