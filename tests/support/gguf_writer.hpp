#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace support {

/// Puts a GGUF file together, byte by byte.
class gguf_writer {
 public:
  std::uint32_t version = 3;

  template <class T>
  void key(std::string_view name, std::uint32_t type, const T& value) {
    put_text(keys_, name);
    put(keys_, type);
    if constexpr (std::is_convertible_v<T, std::string_view>)
      put_text(keys_, value);
    else
      put(keys_, value);
    ++key_count_;
  }
  void whole(std::string_view name, std::uint32_t value) { key(name, 4, value); }
  void number(std::string_view name, float value) { key(name, 6, value); }
  void text(std::string_view name, std::string_view value) { key(name, 8, value); }
  template <class T>
  void list(std::string_view name, std::uint32_t type, const std::vector<T>& values) {
    put_text(keys_, name);
    put(keys_, std::uint32_t{9});
    put(keys_, type);
    put(keys_, std::uint64_t{values.size()});
    for (const T& v : values) {
      if constexpr (std::is_convertible_v<T, std::string_view>)
        put_text(keys_, v);
      else
        put(keys_, v);
    }
    ++key_count_;
  }
  /// `shape` as a matrix [out][in].
  void tensor(std::string_view name, std::vector<std::uint64_t> shape, std::uint32_t type, std::string_view bytes) {
    put_text(tensors_, name);
    put(tensors_, static_cast<std::uint32_t>(shape.size()));
    for (std::size_t d = shape.size(); d-- > 0;) put(tensors_, shape[d]);
    put(tensors_, type);
    put(tensors_, std::uint64_t{data_.size()});
    data_ += bytes;
    data_.resize((data_.size() + 31) / 32 * 32);
    ++tensor_count_;
  }
  void floats(std::string_view name, std::vector<std::uint64_t> shape, const std::vector<float>& values) {
    tensor(name, std::move(shape), 0, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
  }

  std::string bytes() const {
    std::string all = "GGUF";
    put(all, version);
    put(all, tensor_count_);
    put(all, key_count_);
    all += keys_ + tensors_;
    if (tensor_count_ > 0) all.resize((all.size() + 31) / 32 * 32);
    return all + data_;
  }
  void write(const std::filesystem::path& path) const {
    const std::string all = bytes();
    std::ofstream(path, std::ios::binary).write(all.data(), static_cast<std::streamsize>(all.size()));
  }

 private:
  template <class T>
  static void put(std::string& to, const T& value) {
    to.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  static void put_text(std::string& to, std::string_view text) {
    put(to, std::uint64_t{text.size()});
    to += text;
  }

  std::string keys_, tensors_, data_;
  std::uint64_t key_count_ = 0, tensor_count_ = 0;
};

}  // namespace support
