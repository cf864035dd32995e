#pragma once

#include <map>
#include <optional>
#include <string>
#include <variant>

#include <nlohmann/json.hpp>

#include <multistate/io/file.hpp>
#include <multistate/io/write_file.hpp>
#include <multistate/format/element.hpp>

namespace multistate {

/// What a tensor file stores. Values are read from f32, f16, bf16 and i32; the others are known by size only.
enum class tensor_type : std::uint8_t {
  f32,
  f16,
  bf16,
  f64,
  i8,
  u8,
  boolean,
  i16,
  u16,
  i32,
  u32,
  i64,
  u64,
  f8_e4m3,
  f8_e5m2,
  f8_e8m0,
  f8_e4m3_nuz,
  f8_e5m2_nuz,
  c64
};

namespace detail {

struct tensor_type_info {
  std::string_view name;
  std::uint64_t bytes;
};
inline constexpr std::array<tensor_type_info, 19> tensor_types = {{{"F32", 4},
                                                                   {"F16", 2},
                                                                   {"BF16", 2},
                                                                   {"F64", 8},
                                                                   {"I8", 1},
                                                                   {"U8", 1},
                                                                   {"BOOL", 1},
                                                                   {"I16", 2},
                                                                   {"U16", 2},
                                                                   {"I32", 4},
                                                                   {"U32", 4},
                                                                   {"I64", 8},
                                                                   {"U64", 8},
                                                                   {"F8_E4M3", 1},
                                                                   {"F8_E5M2", 1},
                                                                   {"F8_E8M0", 1},
                                                                   {"F8_E4M3FNUZ", 1},
                                                                   {"F8_E5M2FNUZ", 1},
                                                                   {"C64", 8}}};
constexpr const tensor_type_info& info_of(tensor_type t) noexcept { return tensor_types[static_cast<std::size_t>(t)]; }

/// "[2, 3]"
inline std::string shown(std::span<const std::size_t> shape) {
  std::string text = "[";
  for (std::size_t d : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(d);
  return text + "]";
}

}  // namespace detail

/// Where a tensor lies in its file's data, row-major.
struct tensor_info {
  tensor_type type = tensor_type::f32;
  std::vector<std::size_t> shape;
  std::uint64_t begin = 0, end = 0;  ///< bytes, from the start of the data
};

/// A .safetensors file: 8 bytes header length, a JSON header, data. Everything the header says is checked in open().
class safetensors {
 public:
  using tensors_type = std::map<std::string, tensor_info, std::less<>>;
  using metadata_type = std::map<std::string, std::string, std::less<>>;

  /// Errors: not such a file; a tensor that is named twice, of unknown type, not as long as its shape says, beyond the
  /// end; data that belongs to no tensor or to two (the format forbids both).
  static result<safetensors> open(const std::filesystem::path& path);

  const std::filesystem::path& path() const noexcept { return file_.path(); }
  std::span<const std::byte> file() const noexcept { return file_.bytes(); }
  const tensors_type& tensors() const noexcept { return tensors_; }
  const metadata_type& metadata() const noexcept { return metadata_; }
  const tensor_info* find(std::string_view name) const noexcept {
    const auto at = tensors_.find(name);
    return at == tensors_.end() ? nullptr : &at->second;
  }
  /// The stored bytes, unaligned. Precondition: `t` is one of tensors().
  std::span<const std::byte> data(const tensor_info& t) const noexcept {
    return data_.subspan(t.begin, t.end - t.begin);
  }

  /// The open file, which the spans of data() point into.
  file_bytes opened() && noexcept { return std::move(file_); }

  /// Where a tensor lies. Errors: not there, of no such type, another shape than `shape` where that is given.
  result<const tensor_info*> get(std::string_view name, const std::vector<std::size_t>* shape,
                                 std::initializer_list<tensor_type> types) const;
  /// F32, F16 or BF16 as float32. Errors: not there, another type, another shape than `shape` where that is given.
  result<std::vector<float>> floats(std::string_view name, const std::vector<std::size_t>* shape = nullptr) const;
  /// I32. Errors as floats().
  result<std::vector<std::int32_t>> ints(std::string_view name, const std::vector<std::size_t>* shape = nullptr) const;

 private:
  file_bytes file_;
  std::span<const std::byte> data_;
  tensors_type tensors_;
  metadata_type metadata_;
};

namespace detail {

/// Takes the header event by event: nothing is kept of what the schema does not have, and a name that comes twice is
/// seen. Stops at the first fault, which `what` then says.
class safetensors_header final : public nlohmann::json_sax<nlohmann::json> {
 public:
  static constexpr std::size_t most_metadata = 65536;  ///< entries, each of which takes far more memory than text
  std::string complaint;
  safetensors::tensors_type tensors;
  safetensors::metadata_type metadata;

  bool start_object(std::size_t) override {
    if (level_ == 0) return ++level_ > 0;
    if (level_ == 1 && name_ == "__metadata__") {
      in_metadata_ = true;
      return metadata_once() && ++level_ > 0;
    }
    if (level_ != 1) return unexpected("an object");
    const auto [at, fresh] = tensors.try_emplace(name_);
    if (!fresh) return fail("tensor " + shown(name_) + " comes twice");
    tensor_ = &at->second;
    has_type_ = has_shape_ = false;
    offsets_ = -1;
    return ++level_ > 0;
  }
  bool key(string_t& k) override {
    (level_ == 1 ? name_ : field_).swap(k);
    if (level_ != 2 || in_metadata_) return true;
    if (field_ == "dtype" ? has_type_ : field_ == "shape" ? has_shape_ : field_ == "data_offsets" && offsets_ >= 0)
      return fail("tensor " + shown(name_) + " has two entries " + shown(field_));
    return field_ == "dtype" || field_ == "shape" || field_ == "data_offsets" || unexpected("an entry");
  }
  bool end_object() override {
    if (--level_ == 1 && !in_metadata_ && !(has_type_ && has_shape_ && offsets_ == 2))
      return fail("tensor " + shown(name_) + " must have dtype, shape and two data_offsets");
    in_metadata_ = false;
    return true;
  }
  bool string(string_t& s) override {
    if (level_ != 2 || (!in_metadata_ && field_ != "dtype")) return unexpected("a string");
    if (in_metadata_) {
      if (metadata.size() == most_metadata)
        return fail("__metadata__ has more than " + std::to_string(most_metadata) + " entries");
      return metadata.emplace(field_, s).second || fail("__metadata__ has two entries " + shown(field_));
    }
    for (std::size_t i = 0; i < tensor_types.size(); ++i)
      if (tensor_types[i].name == s) {
        tensor_->type = static_cast<tensor_type>(i);
        return has_type_ = true;
      }
    return fail("tensor " + shown(name_) + " is of unknown type " + shown(s) +
                ", must be F32, F16, BF16 or another that whole bytes hold");
  }
  bool start_array(std::size_t) override {
    if (level_ != 2 || in_metadata_ || field_ == "dtype") return unexpected("a list");
    if (field_ == "data_offsets") offsets_ = 0;
    return ++level_ > 0;
  }
  bool end_array() override {
    --level_;
    if (field_ == "shape") has_shape_ = true;
    return true;
  }
  bool number_unsigned(number_unsigned_t n) override {
    if (level_ != 3) return unexpected("a number");
    if (field_ == "shape") {
      if (tensor_->shape.size() == 16) return fail("tensor " + shown(name_) + " has more than 16 dimensions");
      tensor_->shape.push_back(n);
    } else {
      if (offsets_ == 2) return fail("tensor " + shown(name_) + " has more than two data_offsets");
      (offsets_++ == 0 ? tensor_->begin : tensor_->end) = n;
    }
    return true;
  }
  bool null() override { return level_ == 1 && name_ == "__metadata__" ? metadata_once() : unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_integer(number_integer_t) override { return unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return unexpected("a fraction"); }
  bool binary(binary_t&) override { return unexpected("binary data"); }
  bool parse_error(std::size_t at, const std::string&, const nlohmann::detail::exception&) override {
    return fail("the header is not JSON at its byte " + std::to_string(at));
  }

 private:
  bool fail(std::string message) {
    complaint = std::move(message);
    return false;
  }
  bool metadata_once() { return !std::exchange(metadata_seen_, true) || fail("__metadata__ comes twice"); }
  bool unexpected(std::string_view kind) {
    if (level_ == 0) return fail("the header must be a JSON object");
    return fail("the header has " + std::string(kind) + " that does not belong there, at " + shown(name_) +
                (level_ > 1 ? "." + shown(field_) : ""));
  }

  int level_ = 0;  // 1 in the header, 2 in a tensor or the metadata, 3 in a list
  int offsets_ = -1;
  bool in_metadata_ = false, metadata_seen_ = false, has_type_ = false, has_shape_ = false;
  std::string name_, field_;
  tensor_info* tensor_ = nullptr;
};

}  // namespace detail

inline result<safetensors> safetensors::open(const std::filesystem::path& path) {
  auto opened = file_bytes::open(path);
  if (!opened) return opened.reason();
  safetensors s;
  s.file_ = std::move(*opened);
  const auto all = s.file_.bytes();
  if (detail::is_lfs_pointer(all)) return detail::lfs_pointer(path);
  if (all.size() < 8) return detail::file_error(path, "has ", all.size(), " bytes, a .safetensors file at least 8");
  const auto length = load_at<std::uint64_t>(all, 0);
  const std::uint64_t most = std::min<std::uint64_t>(all.size() - 8, 100'000'000);
  if (length > most) return detail::file_error(path, "says its header has ", length, " bytes, possible are ", most);
  const auto header_bytes = all.subspan(8, static_cast<std::size_t>(length));
  s.data_ = all.subspan(8 + header_bytes.size());
  const char* text = reinterpret_cast<const char*>(header_bytes.data());
  if (header_bytes.empty() || *text != '{') return detail::file_error(path, "its header must begin with '{'");
  detail::safetensors_header header;
  if (!nlohmann::json::sax_parse(text, text + header_bytes.size(), &header))
    return detail::file_error(path, header.complaint);
  s.tensors_ = std::move(header.tensors);
  s.metadata_ = std::move(header.metadata);

  std::vector<const tensors_type::value_type*> by_place;
  for (const auto& entry : s.tensors_) {
    const auto& [name, t] = entry;
    std::uint64_t bytes = detail::info_of(t.type).bytes;
    for (std::size_t d : t.shape) bytes = detail::times(bytes, d);
    if (t.begin > t.end || t.end > s.data_.size())
      return detail::file_error(path, "tensor ", detail::shown(name), " lies at [", t.begin, ", ", t.end, ") of ",
                                s.data_.size(), " bytes of data");
    if (t.end - t.begin != bytes)
      return detail::file_error(path, "tensor ", detail::shown(name), " has ", t.end - t.begin, " bytes, its shape ",
                                detail::shown(t.shape), " of ", detail::info_of(t.type).name, " needs ", bytes);
    by_place.push_back(&entry);
  }
  std::sort(by_place.begin(), by_place.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  std::uint64_t covered = 0;
  for (const auto* entry : by_place) {
    if (entry->second.begin != covered)
      return detail::file_error(path, "tensor ", detail::shown(entry->first), " begins at ", entry->second.begin,
                                ", must begin where the one before ends, at ", covered);
    covered = entry->second.end;
  }
  if (covered != s.data_.size())
    return detail::file_error(path, "has ", s.data_.size(), " bytes of data, its tensors take ", covered);
  return s;
}

inline result<const tensor_info*> safetensors::get(std::string_view name, const std::vector<std::size_t>* shape,
                                                   std::initializer_list<tensor_type> types) const {
  std::string right;
  for (tensor_type t : types) right += (right.empty() ? "" : " or ") + std::string(detail::info_of(t).name);
  if (shape != nullptr) right += " " + detail::shown(*shape);
  const tensor_info* t = find(name);
  if (t == nullptr) return detail::file_error(path(), "tensor ", detail::shown(name), " is missing, must be ", right);
  if (std::find(types.begin(), types.end(), t->type) == types.end() || (shape != nullptr && t->shape != *shape))
    return detail::file_error(path(), "tensor ", detail::shown(name), " is ", detail::info_of(t->type).name, " ",
                              detail::shown(t->shape), ", must be ", right);
  return t;
}

inline result<std::vector<float>> safetensors::floats(std::string_view name,
                                                      const std::vector<std::size_t>* shape) const {
  const auto found = get(name, shape, {tensor_type::f32, tensor_type::f16, tensor_type::bf16});
  if (!found) return found.reason();
  const tensor_info& t = **found;
  const auto bytes = data(t);
  std::vector<float> values(bytes.size() / static_cast<std::size_t>(detail::info_of(t.type).bytes));
  if (t.type == tensor_type::f32) {
    if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  } else {
    const auto widen = t.type == tensor_type::f16 ? &f16::load : &bf16::load;
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = widen(load_at<std::uint16_t>(bytes, 2 * i));
  }
  return values;
}

inline result<std::vector<std::int32_t>> safetensors::ints(std::string_view name,
                                                           const std::vector<std::size_t>* shape) const {
  const auto found = get(name, shape, {tensor_type::i32});
  if (!found) return found.reason();
  const auto bytes = data(**found);
  std::vector<std::int32_t> values(bytes.size() / 4);
  if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

/// A tensor to write; the values are the caller's and must stay until it is written.
struct named_tensor {
  std::string name;
  std::vector<std::size_t> shape;
  std::variant<std::span<const float>, std::span<const std::int32_t>> values;
};

/// Writes the tensors in their order, whole or not at all; the data begins at a multiple of 8. Returns the bytes
/// written. Errors: a shape that is not its values' number, a name twice, the file cannot be written.
inline result<std::uint64_t> write_safetensors(const std::filesystem::path& path, std::span<const named_tensor> tensors,
                                               const safetensors::metadata_type& metadata = {}) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::vector<std::span<const std::byte>> parts(1);
  std::uint64_t at = 0;
  for (const named_tensor& t : tensors) {
    const auto bytes = std::visit([](auto values) { return std::as_bytes(values); }, t.values);
    std::uint64_t right = 4;
    for (std::size_t d : t.shape) right = detail::times(right, d);
    if (right != bytes.size())
      return error(errc::bad_shape, path.string(), ": tensor ", t.name, " has ", bytes.size() / 4,
                   " values, which is not its shape ", detail::shown(t.shape));
    if (header.contains(t.name) || t.name == "__metadata__")
      return error(errc::bad_input, path.string(), ": two tensors cannot both be named ", t.name);
    const auto type = std::holds_alternative<std::span<const float>>(t.values) ? tensor_type::f32 : tensor_type::i32;
    header[t.name] = {{"dtype", std::string(detail::info_of(type).name)},
                      {"shape", t.shape},
                      {"data_offsets", std::array<std::uint64_t, 2>{at, at + right}}};
    at += right;
    parts.push_back(bytes);
  }
  std::string text = header.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  text.append((8 - text.size() % 8) % 8, ' ');
  const std::uint64_t length = text.size();
  text.insert(0, reinterpret_cast<const char*>(&length), 8);
  parts[0] = std::as_bytes(std::span(text));
  return write_file(path, parts);
}

}  // namespace multistate
