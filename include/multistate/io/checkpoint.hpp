#pragma once

#include <algorithm>
#include <bit>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <multistate/io/json.hpp>
#include <multistate/io/loaded_model.hpp>
#include <multistate/io/safetensors.hpp>

namespace multistate::detail {

/// Takes an index of shards event by event and calls entry(tensor, shard) for each line of its weight_map, so that an
/// index of any length needs no memory. `entry` returns what is wrong with the line, "" where nothing is.
class index_events final : public json_events {
 public:
  explicit index_events(std::function<std::string(const std::string& tensor, const std::string& shard)> entry)
      : entry_(std::move(entry)) {}

  bool map_seen() const noexcept { return map_seen_; }
  std::uint64_t total_size() const noexcept { return total_size_; }  ///< of all tensors, as it says; 0: it does not

  bool start_object(std::size_t) override {
    if (!member("an object")) return false;
    if (depth() == 1) in_map_ = outer_ == "weight_map";
    if (depth() == 1 && in_map_ && std::exchange(map_seen_, true)) return fail("has two weight_map, must have one");
    return deeper();
  }
  bool start_array(std::size_t) override { return member("a list") && deeper(); }
  bool key(string_t& name) override {
    if (depth() == 1) outer_.swap(name);
    if (depth() == 2) inner_.swap(name);
    return true;
  }
  bool end_object() override { return end(); }
  bool end_array() override { return end(); }
  bool string(string_t& value) override {
    if (!in_map_) return member("a string");
    if (depth() != 2) return fail("must have strings alone in its weight_map");
    std::string wrong = entry_(inner_, value);
    return wrong.empty() || fail(std::move(wrong));
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (depth() == 2 && outer_ == "metadata" && inner_ == "total_size") total_size_ = value;
    return member(std::to_string(value));
  }
  bool null() override { return member("null"); }
  bool boolean(bool) override { return member("true or false"); }
  bool number_integer(number_integer_t) override { return member("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return member("a fraction"); }
  bool binary(binary_t&) override { return fail("is not JSON"); }

 private:
  /// Whether a value that is no shard's name may stand here.
  bool member(std::string_view kind) {
    if (depth() == 0 && kind != "an object") return fail("must be a JSON object");
    if (in_map_)
      return fail("puts " + shown(std::string_view(inner_)) + " in " + std::string(kind) +
                  ", must be a .safetensors file beside it");
    if (depth() == 1 && outer_ == "weight_map" && kind != "an object")
      return fail("has " + std::string(kind) + " for its weight_map, must be an object");
    return true;
  }
  bool end() {
    const bool fine = higher();
    if (depth() == 1) in_map_ = false;
    return fine;
  }

  std::function<std::string(const std::string&, const std::string&)> entry_;
  std::string outer_, inner_;  // the key at depth 1 and 2
  bool in_map_ = false, map_seen_ = false;
  std::uint64_t total_size_ = 0;
};

/// The tensors of a checkpoint, from one file or from the shards that an index names.
class checkpoint {
 public:
  static constexpr std::uint64_t longest_index = std::uint64_t{64} << 20;
  static constexpr std::size_t most_shards = 4096;

  /// A .json index and all shards that it names, or one .safetensors file. Errors: those of the files; an index that
  /// reaches outside its folder or puts a tensor where it is not; a tensor that two shards have with other values.
  static result<checkpoint> open(const std::filesystem::path& path) {
    checkpoint c;
    c.path_ = path;
    if (const error e = path.extension() == ".json" ? c.add_shards() : c.add(path)) return e;
    if (path.extension() != ".json") c.hash_ = hash_bytes(c.files_.back().file());
    return c;
  }

  bool has(std::string_view name) const { return places_.find(name) != places_.end(); }

  // Each tensor can be taken once. Errors: missing, of another type or shape.

  result<std::vector<float>> floats(const std::string& name, const std::vector<std::size_t>& shape) {
    const auto file = take(name, shape);
    if (!file) return file.reason();
    return (*file)->floats(name);
  }
  /// A matrix in one of the files' formats, where it lies.
  result<matrix_view> matrix(loaded_model& model, const std::string& name, std::size_t out, std::size_t in) {
    const auto file = take(name, {out, in});
    if (!file) return file.reason();
    const tensor_info& t = *(*file)->find(name);
    const auto format = t.type == tensor_type::f32   ? weight_format::f32
                        : t.type == tensor_type::f16 ? weight_format::f16
                                                     : weight_format::bf16;
    return model.keep((*file)->data(t), format);
  }

  /// Looks at the tensors that nobody took. Tables of angles, biases that are all zero, tensors of nothing, those of
  /// whole numbers, and a few numbers beside the layers change nothing. Error: any other; the model computes something
  /// that the decoder does not.
  error left_over(const std::string& kind) {
    std::size_t markers = 0;
    std::string first;
    for (const auto& [name, at] : places_) {
      const safetensors& file = files_[at.file];
      const tensor_info& t = *file.find(name);
      if (name.find("rotary_emb.") != std::string::npos) continue;
      if (name.ends_with(".bias") && all_zero(file, name)) continue;
      if (t.begin == t.end || is_whole(t.type) || is_marker(name, t)) {
        if (markers++ == 0) first = shown(std::string_view(name));
        continue;
      }
      if (name.ends_with(".bias"))
        return error(errc::not_supported, file.path().string(), ": tensor ", shown(std::string_view(name)),
                     " is not zero; config.json says of no such bias");
      return error(errc::not_supported, file.path().string(), ": tensor ", shown(std::string_view(name)),
                   " is no part of ", kind);
    }
    if (markers > 0)
      notes.push_back(path_.filename().string() + ": not used: " + std::to_string(markers) +
                      " tensors that are no weights, the first of them " + first);
    return {};
  }
  std::uint64_t hash() const noexcept { return hash_; }

  /// The open files, which matrices lie in.
  std::vector<file_bytes> files() && {
    std::vector<file_bytes> all;
    for (safetensors& file : files_) all.push_back(std::move(file).opened());
    return all;
  }

  std::vector<std::string> notes;  ///< what the files say twice or for nothing

 private:
  struct place {
    std::size_t file;
    bool listed;  // by the index
  };

  /// The file that has a tensor of this shape.
  result<const safetensors*> take(const std::string& name, const std::vector<std::size_t>& shape) {
    const auto at = places_.find(name);
    if (at == places_.end())
      return file_error(path_, "tensor ", name, " is missing, must be F32, F16 or BF16 ", shown(shape),
                        " by config.json");
    const safetensors& file = files_[at->second.file];
    places_.erase(at);
    const auto found = file.get(name, &shape, {tensor_type::f32, tensor_type::f16, tensor_type::bf16});
    if (found) return &file;
    error e = found.reason();
    e.append(" by config.json");
    return e;
  }

  static bool is_whole(tensor_type t) noexcept {
    return t == tensor_type::boolean || t == tensor_type::i8 || t == tensor_type::u8 || t == tensor_type::i16 ||
           t == tensor_type::u16 || t == tensor_type::i32 || t == tensor_type::u32 || t == tensor_type::i64 ||
           t == tensor_type::u64;
  }
  static bool is_marker(std::string_view name, const tensor_info& t) noexcept {
    return t.end - t.begin <= 16 * info_of(t.type).bytes && name.find("layers.") == name.npos &&
           !name.ends_with(".weight") && !name.ends_with(".bias");
  }
  static bool all_zero(const safetensors& file, const std::string& name) {
    const auto values = file.floats(name);
    return values && std::all_of(values->begin(), values->end(),
                                 [](float x) { return std::bit_cast<std::uint32_t>(x) << 1 == 0; });
  }

  /// Adds the tensors of a file. A tensor that another file has, too, must be the same there.
  error add(const std::filesystem::path& path) {
    auto file = safetensors::open(path);
    if (!file) return file.reason();
    for (const auto& [name, t] : file->tensors()) {
      const auto [at, fresh] = places_.try_emplace(name, place{files_.size(), false});
      if (fresh) continue;
      const safetensors& other = files_[at->second.file];
      const tensor_info& u = *other.find(name);
      const auto a = file->data(t), b = other.data(u);
      if (t.type != u.type || t.shape != u.shape || !std::equal(a.begin(), a.end(), b.begin(), b.end()))
        return file_error(path, "has another tensor ", shown(std::string_view(name)), " than ",
                          other.path().filename().string(), " beside it; only one of them can be meant");
    }
    files_.push_back(std::move(*file));
    return {};
  }

  error add_shards() {
    const auto index = file_bytes::open(path_, longest_index);
    if (!index) return index.reason();
    // By name, so that the hash does not hang on the index's order.
    std::map<std::string, std::size_t, std::less<>> shards;
    index_events names([&](const std::string& tensor, const std::string& shard) -> std::string {
      // A plain name: an index must not reach outside its folder, nor write on a terminal.
      const bool plain = std::none_of(shard.begin(), shard.end(), [](unsigned char c) { return c < 32 || c == 127; });
      if (!plain || std::filesystem::path(shard).filename() != shard || !shard.ends_with(".safetensors"))
        return "puts " + shown(std::string_view(tensor)) + " in " + shown(std::string_view(shard)) +
               ", must be a .safetensors file beside it";
      shards.emplace(shard, shards.size());
      return shards.size() <= most_shards ? "" : "names more than " + std::to_string(most_shards) + " files";
    });
    if (const error e = read_json_events(*index, names)) return e;
    if (shards.empty())
      return file_error(path_, "must have an object weight_map that says which file has which tensor");
    for (auto& [name, number] : shards) {
      number = files_.size();
      if (const error e = add(path_.parent_path() / name)) return e;
      hash_ = mix(hash_ ^ hash_bytes(files_.back().file()));
    }
    // Once more, now that it is known what lies where.
    index_events places([&](const std::string& tensor, const std::string& shard) -> std::string {
      const auto at = shards.find(shard);
      if (at == shards.end() || files_[at->second].find(tensor) == nullptr)
        return "puts " + shown(std::string_view(tensor)) + " in " + shown(std::string_view(shard)) +
               ", which has no such tensor";
      places_.find(tensor)->second.listed = true;
      return "";
    });
    if (const error e = read_json_events(*index, places)) return e;
    say_what_differs(places.total_size());
    return {};
  }

  /// Of the index and its files, where the files are right in any case.
  void say_what_differs(std::uint64_t total_size) {
    std::uint64_t bytes = 0, unlisted = 0;
    std::string first;
    for (const auto& [name, at] : places_) {
      const tensor_info& t = *files_[at.file].find(name);
      bytes += t.end - t.begin;
      if (!at.listed && unlisted++ == 0) first = shown(std::string_view(name));
    }
    const std::string says = path_.filename().string() + ": ";
    if (unlisted > 0)
      notes.push_back(says + "does not list " + std::to_string(unlisted) + " tensors that its files have, the first " +
                      first + "; they are read too, as transformers does");
    if (total_size != 0 && total_size != bytes)
      notes.push_back(says + "metadata.total_size is " + std::to_string(total_size) + ", its files have tensors of " +
                      std::to_string(bytes) + " bytes; the files are taken");
  }

  std::filesystem::path path_;
  std::vector<safetensors> files_;
  std::map<std::string, place, std::less<>> places_;
  std::uint64_t hash_ = 0;
};

}  // namespace multistate::detail
