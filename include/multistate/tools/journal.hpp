#pragma once

#include <nlohmann/json.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <multistate/io/file.hpp>
#include <multistate/tools/command_line.hpp>

namespace multistate::detail {

/// What a long run has finished, part by part, so that a run with the same settings goes on where one was stopped.
/// Parts are appended to OUTPUT.<settings>.partial as they are done; what a kill left torn is cut off, and remove()
/// takes the file away when nothing is left to do.
class journal {
 public:
  using json = nlohmann::ordered_json;

  /// Keeps nothing.
  journal() = default;
  /// Beside a file that the run will write. Errors end the program as usage errors.
  journal(const std::string& output, std::uint64_t settings) {
    path_ = output + "." + hash_text(settings) + ".partial";
    std::error_code none;
    if (std::filesystem::exists(path_, none)) load();
  }

  /// Null: not done yet.
  const json* find(const std::string& part) const {
    const auto found = parts_.find(part);
    return found == parts_.end() ? nullptr : &found->second;
  }
  void keep(const std::string& part, json what) {
    if (path_.empty()) return;
    json record = json::array({part, std::move(what)});
    const std::vector<std::uint8_t> bytes = json::to_cbor(record);
    const header h{bytes.size(), hash_bytes(std::as_bytes(std::span(bytes)))};
    open_file file(std::fopen(path_.c_str(), "ab"));
    const bool written = file.get() != nullptr && std::fwrite(&h, sizeof h, 1, file.get()) == 1 &&
                         std::fwrite(bytes.data(), 1, bytes.size(), file.get()) == bytes.size();
    if (!file.close() || !written)
      throw usage_error(std::string(system_error(path_, "cannot be written", errno).message()));
    parts_[part] = std::move(record[1]);
  }
  void remove() noexcept {
    std::error_code none;
    if (!path_.empty()) std::filesystem::remove(path_, none);
  }
  std::size_t parts() const noexcept { return parts_.size(); }
  /// Empty: nothing is kept.
  const std::string& path() const noexcept { return path_; }

 private:
  struct header {
    std::uint64_t bytes, hash;
  };

  void load() {
    std::size_t whole = 0;
    {
      const file_bytes file = value_or_usage(file_bytes::open(path_));
      for (header h; file.size() - whole >= sizeof h; whole += sizeof h + h.bytes) {
        std::memcpy(&h, file.bytes().data() + whole, sizeof h);
        if (h.bytes > file.size() - whole - sizeof h) break;
        const auto record = file.bytes().subspan(whole + sizeof h, h.bytes);
        if (hash_bytes(record) != h.hash) break;
        json part = json::from_cbor(reinterpret_cast<const std::uint8_t*>(record.data()),
                                    reinterpret_cast<const std::uint8_t*>(record.data()) + record.size(), true, false);
        if (!part.is_array() || part.size() != 2 || !part[0].is_string()) break;
        parts_[part[0].get<std::string>()] = std::move(part[1]);
      }
      if (whole == file.size()) return;
    }
    std::filesystem::resize_file(path_, whole);
  }

  std::string path_;
  std::map<std::string, json> parts_;
};

}  // namespace multistate::detail
