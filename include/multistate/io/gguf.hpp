#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <multistate/io/file.hpp>
#include <multistate/io/gguf_blocks.hpp>

namespace multistate {

/// Types of GGUF's metadata, by their numbers in the file.
enum class gguf_type : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

/// One entry of the metadata, where it lies in the file; a number, a string, or an array of one of them.
struct gguf_value {
  gguf_type type = gguf_type::u8;  ///< of the elements, where it is an array
  bool is_array = false;
  std::uint64_t count = 1;           ///< elements
  std::span<const std::byte> bytes;  ///< of a string: its text; of an array of strings: each behind its length
};

/// A tensor's numbers, where they lie in the file. Dimensions are in the order of a matrix [out][in], the one whose
/// numbers lie side by side last.
struct gguf_tensor {
  const gguf_block* block = nullptr;
  std::vector<std::size_t> shape;
  std::span<const std::byte> bytes;
};

/// A GGUF file of version 2 or 3, or all files of a split one. Everything that the header says is checked in open(); no
/// number of the file makes anything be allocated that its bytes do not back.
class gguf {
 public:
  using keys_type = std::map<std::string, gguf_value, std::less<>>;
  using tensors_type = std::map<std::string, gguf_tensor, std::less<>>;

  /// `path`: the file, or the first one of a split model. Errors: not such a file; cut short; a count, length, type,
  /// offset or alignment that can't be; tensors that overlap; a type of block that is not read; a part that is missing.
  static result<gguf> open(const std::filesystem::path& path);

  const std::filesystem::path& path() const noexcept { return files_.front().path(); }
  const keys_type& keys() const noexcept { return keys_; }
  const tensors_type& tensors() const noexcept { return tensors_; }
  const gguf_value* find(std::string_view key) const noexcept {
    const auto at = keys_.find(key);
    return at == keys_.end() ? nullptr : &at->second;
  }
  const gguf_tensor* find_tensor(std::string_view name) const noexcept {
    const auto at = tensors_.find(name);
    return at == tensors_.end() ? nullptr : &at->second;
  }

  // Values of the metadata; nothing where the key is missing. Errors: another type.

  result<std::optional<std::uint64_t>> whole(std::string_view key) const;
  result<std::optional<double>> number(std::string_view key) const;
  result<std::optional<bool>> flag(std::string_view key) const;
  result<std::optional<std::string_view>> text(std::string_view key) const;
  /// An array; where a single number stands, that one. As doubles, which hold every whole number below 2^53.
  result<std::optional<std::vector<double>>> numbers(std::string_view key) const;
  /// An array of strings, which point into the file.
  result<std::optional<std::vector<std::string_view>>> texts(std::string_view key) const;

  /// All numbers of a tensor as float32. Precondition: `t` is one of tensors().
  static std::vector<float> floats(const gguf_tensor& t);

  /// The open files, which the spans of keys and tensors point into.
  std::vector<file_bytes> files() && noexcept { return std::move(files_); }

  /// Of all files' bytes, which this reads.
  std::uint64_t hash() const noexcept {
    std::uint64_t all = hash_bytes(files_.front().bytes());
    for (std::size_t i = 1; i < files_.size(); ++i) all = mix(all ^ hash_bytes(files_[i].bytes()));
    return all;
  }

 private:
  struct part_of_split {
    std::uint64_t number = 0, count = 1;
    std::optional<std::uint64_t> tensors;
  };

  error add(const std::filesystem::path& path, bool first);
  result<part_of_split> split_of(const keys_type& keys) const;
  template <class... Part>
  error wrong(std::string_view key, const Part&... parts) const {
    return detail::file_error(path(), detail::shown(key), parts...);
  }

  std::vector<file_bytes> files_;
  keys_type keys_;  ///< of the first file
  tensors_type tensors_;
};

namespace detail {

inline bool is_gguf(std::span<const std::byte> bytes) noexcept { return begins_with(bytes, "GGUF"); }

/// Bytes of one number; 0: none.
constexpr std::size_t gguf_size(gguf_type type) noexcept {
  switch (type) {
    case gguf_type::u8:
    case gguf_type::i8:
    case gguf_type::boolean:
      return 1;
    case gguf_type::u16:
    case gguf_type::i16:
      return 2;
    case gguf_type::u32:
    case gguf_type::i32:
    case gguf_type::f32:
      return 4;
    case gguf_type::u64:
    case gguf_type::i64:
    case gguf_type::f64:
      return 8;
    case gguf_type::string:
    case gguf_type::array:
      break;
  }
  return 0;
}

/// A number of the metadata as a double; a boolean is 0 or 1.
inline double gguf_number(gguf_type type, std::span<const std::byte> bytes, std::size_t at) noexcept {
  switch (type) {
    case gguf_type::i8:
      return load_at<std::int8_t>(bytes, at);
    case gguf_type::u16:
      return load_at<std::uint16_t>(bytes, at);
    case gguf_type::i16:
      return load_at<std::int16_t>(bytes, at);
    case gguf_type::u32:
      return load_at<std::uint32_t>(bytes, at);
    case gguf_type::i32:
      return load_at<std::int32_t>(bytes, at);
    case gguf_type::f32:
      return static_cast<double>(load_at<float>(bytes, at));
    case gguf_type::u64:
      return static_cast<double>(load_at<std::uint64_t>(bytes, at));
    case gguf_type::i64:
      return static_cast<double>(load_at<std::int64_t>(bytes, at));
    case gguf_type::f64:
      return load_at<double>(bytes, at);
    default:
      return load_at<std::uint8_t>(bytes, at);
  }
}

/// Reads one file's header from the front; the first fault is kept, and nothing is read behind it.
class gguf_reader {
 public:
  explicit gguf_reader(const file_bytes& file) : file_(file), in_(file.bytes()) {}

  gguf::keys_type keys;
  gguf::tensors_type tensors;

  error read() {
    if (const error e = begin()) return e;
    for (std::uint64_t i = 0; i < key_count_; ++i)
      if (const error e = read_key(i)) return e;
    std::vector<described> found;
    for (std::uint64_t i = 0; i < tensor_count_; ++i)
      if (const error e = read_tensor(i, found)) return e;
    return place(found);
  }

 private:
  struct described {
    gguf::tensors_type::iterator at;
    std::uint64_t begin, bytes;
  };

  template <class... Part>
  error bad(const Part&... parts) const {
    return file_error(file_.path(), parts...);
  }
  error cut(std::string_view part, std::uint64_t number) const {
    return bad("ends inside ", part, " ", number + 1, ", after ", file_.size(), " bytes");
  }

  error begin() {
    const auto all = file_.bytes();
    if (all.empty()) return bad("is empty, must be a GGUF file");
    if (!is_gguf(all)) return bad("begins with other bytes than GGUF");
    in_.take(4);
    const auto version = in_.get<std::uint32_t>();
    tensor_count_ = in_.get<std::uint64_t>();
    key_count_ = in_.get<std::uint64_t>();
    if (all.size() >= 8 && version != 2 && version != 3) {
      if (version != 0 && (version & 0xffff) == 0) return bad("is a big-endian GGUF file, must be little-endian");
      return bad("is GGUF version ", version, ", must be 2 or 3");
    }
    if (in_.failed()) return bad("ends inside its counts, after ", all.size(), " bytes");
    if (key_count_ > in_.left() / smallest_key)
      return bad("says it has ", key_count_, " keys, there is room for ", in_.left() / smallest_key);
    if (tensor_count_ > in_.left() / smallest_tensor)
      return bad("says it has ", tensor_count_, " tensors, there is room for ", in_.left() / smallest_tensor);
    return {};
  }

  /// A length and so many bytes; nothing where the file is too short.
  std::optional<std::string_view> text() {
    const auto length = in_.get<std::uint64_t>();
    if (in_.failed() || length > in_.left()) return std::nullopt;
    const auto bytes = in_.take(length);
    return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  error read_key(std::uint64_t number) {
    const auto name = text();
    if (!name) return cut("the name of key", number);
    if (name->empty() || name->size() > longest_name)
      return bad("key ", number + 1, " has a name of ", name->size(), " bytes, must be 1 to ", longest_name);
    const auto [at, fresh] = keys.try_emplace(std::string(*name));
    if (!fresh) return bad("has key ", shown(*name), " twice");
    gguf_value& v = at->second;
    auto type = in_.get<std::uint32_t>();
    v.is_array = type == static_cast<std::uint32_t>(gguf_type::array);
    if (v.is_array) {
      type = in_.get<std::uint32_t>();
      v.count = in_.get<std::uint64_t>();
    }
    if (in_.failed()) return bad("ends inside key ", shown(*name), ", after ", file_.size(), " bytes");
    if (type == static_cast<std::uint32_t>(gguf_type::array))
      return bad("key ", shown(*name), " is an array of arrays, must be one of numbers or strings");
    if (type > static_cast<std::uint32_t>(gguf_type::f64))
      return bad("key ", shown(*name), " is of value type ", type, ", must be 0 to 12");
    v.type = static_cast<gguf_type>(type);
    const std::uint64_t least = v.type == gguf_type::string ? 8 : gguf_size(v.type);
    if (v.count > in_.left() / least)
      return bad("key ", shown(*name), " says it has ", v.count, " values, there is room for ", in_.left() / least);
    return read_value(*name, v);
  }

  error read_value(std::string_view name, gguf_value& v) {
    if (v.type != gguf_type::string) {
      v.bytes = in_.take(v.count * gguf_size(v.type));
      if (v.type == gguf_type::boolean)
        for (const std::byte b : v.bytes)
          if (b > std::byte{1})
            return bad("key ", shown(name), " is ", std::to_integer<int>(b), ", must be 0 or 1 as a boolean");
      return {};
    }
    const std::size_t from = file_.size() - in_.left();
    std::size_t last = 0;
    for (std::uint64_t i = 0; i < v.count; ++i) {
      const auto one = text();
      if (!one) return bad("key ", shown(name), " has a string that goes on behind the end of the file");
      last = one->size();
    }
    const std::size_t to = file_.size() - in_.left();
    v.bytes = v.is_array ? file_.bytes().subspan(from, to - from) : file_.bytes().subspan(to - last, last);
    return {};
  }

  error read_tensor(std::uint64_t number, std::vector<described>& found) {
    const auto name = text();
    if (!name) return cut("the name of tensor", number);
    if (name->empty() || name->size() > longest_name)
      return bad("tensor ", number + 1, " has a name of ", name->size(), " bytes, must be 1 to ", longest_name);
    const auto dimensions = in_.get<std::uint32_t>();
    if (in_.failed()) return cut("tensor", number);
    if (dimensions < 1 || dimensions > 4)
      return bad("tensor ", shown(*name), " has ", dimensions, " dimensions, must be 1 to 4");
    gguf_tensor t;
    std::uint64_t values = 1, inner = 0;
    for (std::uint32_t d = 0; d < dimensions; ++d) {
      const auto size = in_.get<std::uint64_t>();
      if (d == 0) inner = size;
      values = times(values, size);
      t.shape.insert(t.shape.begin(), size);
    }
    const auto type = in_.get<std::uint32_t>();
    const auto offset = in_.get<std::uint64_t>();
    if (in_.failed()) return cut("tensor", number);
    if (std::find(t.shape.begin(), t.shape.end(), 0) != t.shape.end())
      return bad("tensor ", shown(*name), " has a dimension of 0");
    if (values > std::uint64_t{1} << 62) return bad("tensor ", shown(*name), " has more numbers than 64 bits count");
    t.block = find_gguf_block(type);
    if (t.block == nullptr) {
      const auto known = unread_gguf_block(type);
      return error(known.empty() ? errc::bad_file : errc::not_supported, file_.path().string(), ": tensor ",
                   shown(*name), " is of type ", type, known.empty() ? "" : " ", known,
                   known.empty() ? ", which is unknown" : ", which is not read");
    }
    if (inner % t.block->values() != 0)
      return bad("tensor ", shown(*name), " has ", inner, " numbers side by side, must be a multiple of ",
                 t.block->values(), " in ", t.block->name);
    const std::uint64_t bytes = times(values / t.block->values(), t.block->bytes());
    const auto [at, fresh] = tensors.try_emplace(std::string(*name), std::move(t));
    if (!fresh) return bad("has tensor ", shown(*name), " twice");
    found.push_back({at, offset, bytes});
    return {};
  }

  /// Where the data begins, and that each tensor lies inside it and on no other.
  error place(std::vector<described>& found) {
    std::uint64_t alignment = 32;
    if (const auto at = keys.find("general.alignment"); at != keys.end()) {
      const gguf_value& v = at->second;
      if (v.is_array || v.type != gguf_type::u32) return bad("general.alignment must be one number of 32 bits");
      alignment = load_at<std::uint32_t>(v.bytes, 0);
      if (!std::has_single_bit(alignment)) return bad("general.alignment is ", alignment, ", must be a power of two");
    }
    if (found.empty()) return {};
    const std::uint64_t header = file_.size() - in_.left();
    const std::uint64_t data = (header + alignment - 1) / alignment * alignment;
    if (data > file_.size()) return bad("ends before its tensors' numbers, after ", file_.size(), " bytes");
    const std::uint64_t room = file_.size() - data;
    for (const described& d : found) {
      if (d.begin % alignment != 0)
        return bad("tensor ", shown(std::string_view(d.at->first)), " begins at ", d.begin,
                   ", must be at a multiple of ", alignment);
      if (d.begin > room || d.bytes > room - d.begin)
        return bad("tensor ", shown(std::string_view(d.at->first)), " has ", d.bytes, " bytes at ", d.begin,
                   ", the file has ", room, " bytes of data");
      d.at->second.bytes = file_.bytes().subspan(data + d.begin, d.bytes);
    }
    std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
    for (std::size_t i = 1; i < found.size(); ++i)
      if (found[i].begin < found[i - 1].begin + found[i - 1].bytes)
        return bad("tensor ", shown(std::string_view(found[i].at->first)), " lies on tensor ",
                   shown(std::string_view(found[i - 1].at->first)));
    return {};
  }

  static constexpr std::size_t longest_name = 65535;
  static constexpr std::uint64_t smallest_key = 8 + 1 + 4 + 1;             // name, type, value
  static constexpr std::uint64_t smallest_tensor = 8 + 1 + 4 + 8 + 4 + 8;  // name, dimensions, type, offset

  const file_bytes& file_;
  byte_reader in_;
  std::uint64_t key_count_ = 0, tensor_count_ = 0;
};

}  // namespace detail

inline result<gguf::part_of_split> gguf::split_of(const keys_type& keys) const {
  part_of_split part;
  const auto whole = [&](const char* key, std::uint64_t otherwise) -> std::uint64_t {
    const auto at = keys.find(key);
    if (at == keys.end()) return otherwise;
    if (at->second.is_array || detail::gguf_size(at->second.type) == 0) return ~std::uint64_t{0};
    const double x = detail::gguf_number(at->second.type, at->second.bytes, 0);
    return x >= 0 && x < 65536.0 * 65536.0 && x <= std::floor(x) ? static_cast<std::uint64_t>(x) : ~std::uint64_t{0};
  };
  part.number = whole("split.no", 0);
  part.count = whole("split.count", 1);
  if (keys.find("split.tensors.count") != keys.end()) part.tensors = whole("split.tensors.count", 0);
  if (part.count == 0) part.count = 1;
  if (part.count > 65535 || part.number >= part.count)
    return detail::file_error(path(), "split.no and split.count must be whole numbers, the first the smaller one");
  return part;
}

inline error gguf::add(const std::filesystem::path& path, bool first) {
  auto opened = file_bytes::open(path);
  if (!opened) return opened.reason();
  if (detail::is_lfs_pointer(opened->bytes())) return detail::lfs_pointer(path);
  detail::gguf_reader reader(*opened);
  if (error e = reader.read()) return e;
  for (auto& [name, tensor] : reader.tensors)
    if (!tensors_.try_emplace(name, std::move(tensor)).second)
      return detail::file_error(path, "has tensor ", detail::shown(std::string_view(name)),
                                ", which another part has too");
  if (first) keys_ = std::move(reader.keys);
  files_.push_back(std::move(*opened));
  if (first) return {};
  const auto part = split_of(reader.keys), whole = split_of(keys_);
  if (!part || !whole || part->number != files_.size() - 1 || part->count != whole->count)
    return detail::file_error(path, "is not part ", files_.size(), " of ", files_.front().path().filename().string());
  return {};
}

inline result<gguf> gguf::open(const std::filesystem::path& path) {
  gguf g;
  if (error e = g.add(path, true)) return e;
  const auto part = g.split_of(g.keys_);
  if (!part) return part.reason();
  if (part->number != 0)
    return detail::file_error(path, "is part ", part->number + 1, " of ", part->count, "; name the first one");
  if (part->count > 1) {
    const auto numbered = [&](std::uint64_t n) {
      std::string digits = std::to_string(n), of = std::to_string(part->count);
      digits.insert(0, 5 - std::min<std::size_t>(5, digits.size()), '0');
      of.insert(0, 5 - std::min<std::size_t>(5, of.size()), '0');
      return "-" + digits + "-of-" + of + ".gguf";
    };
    const std::string name = path.filename().string(), end = numbered(1);
    if (!name.ends_with(end))
      return detail::file_error(path, "is the first of ", part->count, " files, its name must end in ", end);
    const std::string stem = name.substr(0, name.size() - end.size());
    for (std::uint64_t n = 2; n <= part->count; ++n)
      if (error e = g.add(path.parent_path() / (stem + numbered(n)), false)) return e;
  }
  if (part->tensors && *part->tensors != g.tensors_.size())
    return detail::file_error(path, "has ", g.tensors_.size(), " tensors in all, split.tensors.count says ",
                              *part->tensors);
  return g;
}

inline result<std::optional<double>> gguf::number(std::string_view key) const {
  const gguf_value* v = find(key);
  if (v == nullptr) return std::optional<double>();
  if (v->is_array || v->type == gguf_type::string || v->type == gguf_type::boolean)
    return wrong(key, " must be a number");
  return std::optional(detail::gguf_number(v->type, v->bytes, 0));
}

inline result<std::optional<std::uint64_t>> gguf::whole(std::string_view key) const {
  const auto x = number(key);
  if (!x) return x.reason();
  if (!*x) return std::optional<std::uint64_t>();
  constexpr double most = 9007199254740992.0;  // 2^53
  if (!(**x >= 0 && **x < most && **x <= std::floor(**x))) return wrong(key, " must be a whole number from 0 on");
  return std::optional(static_cast<std::uint64_t>(**x));
}

inline result<std::optional<bool>> gguf::flag(std::string_view key) const {
  const gguf_value* v = find(key);
  if (v == nullptr) return std::optional<bool>();
  if (v->is_array || v->type != gguf_type::boolean) return wrong(key, " must be a boolean");
  return std::optional(v->bytes[0] != std::byte{0});
}

inline result<std::optional<std::string_view>> gguf::text(std::string_view key) const {
  const gguf_value* v = find(key);
  if (v == nullptr) return std::optional<std::string_view>();
  if (v->is_array || v->type != gguf_type::string) return wrong(key, " must be a string");
  return std::optional(std::string_view(reinterpret_cast<const char*>(v->bytes.data()), v->bytes.size()));
}

inline result<std::optional<std::vector<double>>> gguf::numbers(std::string_view key) const {
  const gguf_value* v = find(key);
  if (v == nullptr) return std::optional<std::vector<double>>();
  const std::size_t size = detail::gguf_size(v->type);
  if (size == 0) return wrong(key, " must be numbers");
  std::vector<double> all(v->count);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = detail::gguf_number(v->type, v->bytes, i * size);
  return std::optional(std::move(all));
}

inline result<std::optional<std::vector<std::string_view>>> gguf::texts(std::string_view key) const {
  const gguf_value* v = find(key);
  if (v == nullptr) return std::optional<std::vector<std::string_view>>();
  if (!v->is_array || v->type != gguf_type::string) return wrong(key, " must be an array of strings");
  std::vector<std::string_view> all;
  all.reserve(v->count);
  for (std::size_t at = 0; all.size() < v->count;) {
    const auto length = load_at<std::uint64_t>(v->bytes, at);
    all.emplace_back(reinterpret_cast<const char*>(v->bytes.data()) + at + 8, length);
    at += 8 + length;
  }
  return std::optional(std::move(all));
}

inline std::vector<float> gguf::floats(const gguf_tensor& t) {
  std::vector<float> values(t.bytes.size() / t.block->bytes() * t.block->values());
  load_row(t.block->format, values.data(), t.bytes.data(), values.size());
  return values;
}

}  // namespace multistate
