#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <mutex>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <multistate/io/json.hpp>
#include <multistate/io/write_file.hpp>
#include <tools/terminal/console.hpp>

/// What a long run has finished, part by part, so that a run with the same settings goes on where one was stopped.
///
/// A journal is text. Its first line is "multistate journal 1 <settings>"; each line after it is one record: 16 digits
/// that are the hash of what follows them, a blank, and JSON: [name, value]. Of records with one name the last counts.
namespace multistate::tools {

/// Says what is wrong with a journal or a record; the journal's name is put before it.
struct bad_record : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// -- the numbers of a record, each within what it can be; all throw bad_record or what nlohmann::json throws

inline const nlohmann::ordered_json& list_of(const nlohmann::ordered_json& list, std::size_t size) {
  if (!list.is_array() || list.size() != size)
    throw bad_record("a list that is not of " + std::to_string(size) + " values");
  return list;
}
inline std::int64_t whole_of(const nlohmann::ordered_json& x, std::int64_t least, std::int64_t most) {
  const bool far = x.is_number_unsigned() && x.get<std::uint64_t>() > std::uint64_t{1} << 62;
  if (!x.is_number_integer() || far || x.get<std::int64_t>() < least || x.get<std::int64_t>() > most)
    throw bad_record("a number that is not a whole one from " + std::to_string(least) + " to " + std::to_string(most));
  return x.get<std::int64_t>();
}
inline double real_of(const nlohmann::ordered_json& x, double least = -std::numeric_limits<double>::max(),
                      double most = std::numeric_limits<double>::max()) {
  const double value = x.is_number() ? x.get<double>() : std::nan("");
  if (!(value >= least && value <= most)) throw bad_record("a number that cannot be");
  return value;
}
inline std::vector<std::int64_t> wholes_of(const nlohmann::ordered_json& list, std::size_t size, std::int64_t least,
                                           std::int64_t most) {
  std::vector<std::int64_t> values;
  for (const auto& x : list_of(list, size)) values.push_back(whole_of(x, least, most));
  return values;
}
inline std::vector<double> reals_of(const nlohmann::ordered_json& list, std::size_t size,
                                    double least = -std::numeric_limits<double>::max(),
                                    double most = std::numeric_limits<double>::max()) {
  std::vector<double> values;
  for (const auto& x : list_of(list, size)) values.push_back(real_of(x, least, most));
  return values;
}

// -- the file

inline std::string journal_head(std::uint64_t settings) { return "multistate journal 1 " + hash_text(settings) + "\n"; }

struct journal_contents {
  std::map<std::string, nlohmann::ordered_json> records;
  std::size_t whole = 0;  ///< bytes of the text that are whole; the rest a kill left torn
};

/// Whether a JSON text is nested deeper than that anywhere.
inline bool nested_deeper(std::string_view text, int most) noexcept {
  int depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted && c == '\\')
      ++i;
    else if (c == '"')
      quoted = !quoted;
    else if (!quoted && (c == '[' || c == '{') && ++depth > most)
      return true;
    else if (!quoted && (c == ']' || c == '}'))
      --depth;
  }
  return false;
}

/// Throws bad_record: the text is no journal of these settings, or damaged before its last record.
inline journal_contents read_journal(std::string_view text, std::uint64_t settings) {
  using json = nlohmann::ordered_json;
  constexpr std::size_t digits = 16;
  constexpr int deepest = 16;
  const std::string head = journal_head(settings);
  journal_contents found;
  if (text.size() < head.size() && head.starts_with(text)) return found;
  if (!text.starts_with(head)) throw bad_record("is not a journal of this program and these settings");
  found.whole = head.size();
  while (found.whole < text.size()) {
    const std::size_t end = text.find('\n', found.whole);
    if (end == text.npos) break;
    const std::string_view line = text.substr(found.whole, end - found.whole);
    const std::string_view body = line.substr(std::min(line.size(), digits + 1));
    const bool hashed = line.size() > digits && line[digits] == ' ' &&
                        line.substr(0, digits) == hash_text(hash_bytes(std::as_bytes(std::span(body))));
    if (!hashed && end + 1 == text.size()) break;
    json record = hashed && !nested_deeper(body, deepest) ? json::parse(body, nullptr, false) : json();
    if (!record.is_array() || record.size() != 2 || !record[0].is_string())
      throw bad_record("is damaged at byte " + std::to_string(found.whole));
    found.records[record[0].get<std::string>()] = std::move(record[1]);
    found.whole = end + 1;
  }
  return found;
}

/// The journal of one run, locked as long as it is open. Parts are appended as they are done, each on disk before the
/// run goes on; what a kill left torn is cut off. Errors end the program as usage errors.
class journal {
 public:
  using json = nlohmann::ordered_json;

  /// Keeps nothing until it is opened.
  journal() = default;
  journal(const journal&) = delete;
  journal& operator=(const journal&) = delete;
  ~journal() {
    if (head_size_ > 0 && size_ == head_size_) remove();  // nothing was kept
  }

  /// Beside a file that the run will write: OUTPUT.<settings>.partial. What stands there and is no journal of this run
  /// is left as it is and refused.
  void open(const std::string& output, std::uint64_t settings) {
    path_ = output + "." + hash_text(settings) + ".partial";
    take_file();
    const std::string text = read_file();
    journal_contents found;
    try {
      found = read_journal(text, settings);
    } catch (const bad_record& e) {
      refuse(e.what());
    }
    const std::string head = journal_head(settings);
    head_size_ = head.size();
    size_ = found.whole;
    if (size_ != text.size() && ::ftruncate(file_.get(), static_cast<off_t>(size_)) != 0) fail();
    if (size_ == 0) {
      append(head);
      detail::flush_folder(detail::folder_of(path_));
    }
    parts_ = std::move(found.records);
  }

  /// take(record) of a part that was done before; false: it was not. What take throws says that the record does not fit
  /// this run, and ends it.
  template <class Take>
  bool restore(const std::string& part, const Take& take) const {
    const auto found = parts_.find(part);
    if (found == parts_.end()) return false;
    try {
      take(found->second);
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& e) {
      const std::string why = "record '" + part + "' does not fit this run: " + e.what();
      if (const auto from = taken_from_.find(part); from != taken_from_.end())
        throw usage_error(from->second + ": " + why);
      refuse(why);
    }
    return true;
  }
  /// From any thread.
  void keep(const std::string& part, const json& value) {
    if (retains_) {
      const std::lock_guard<std::mutex> one_at_a_time(mutex_);
      parts_[part] = value;
    }
    if (!file_) return;
    const std::string body = json::array({part, value}).dump(-1, ' ', true, json::error_handler_t::replace);
    const std::lock_guard<std::mutex> one_at_a_time(mutex_);
    append(hash_text(hash_bytes(std::as_bytes(std::span(body)))) + " " + body + "\n");
  }
  /// From now on holds what is kept, for records().
  void retain() noexcept { retains_ = true; }
  /// Those that were done before and, where they are retained, those of this run.
  const std::map<std::string, json>& records() const noexcept { return parts_; }
  /// A part that another run did, as its file says.
  void take_over(const std::string& part, json&& record, const std::string& file) {
    parts_[part] = std::move(record);
    taken_from_[part] = file;
  }
  /// Takes the file away: nothing is left to do.
  void remove() noexcept {
    if (file_) ::unlink(path_.c_str());
    file_.close();
  }
  /// That were done before.
  std::size_t parts() const noexcept { return parts_.size(); }
  /// Whether anything is kept, of this run or of one before.
  bool keeps_any() const noexcept { return file_ && size_ > head_size_; }
  /// Empty: nothing is kept.
  const std::string& path() const noexcept { return path_; }

 private:
  static constexpr std::uint64_t most_bytes = std::uint64_t{1} << 30;

  [[noreturn]] void refuse(const std::string& why) const {
    throw usage_error(path_ + ": " + why + "; take the file away to begin anew");
  }
  [[noreturn]] void fail() const {
    throw usage_error(path_ + ": the journal cannot be written: " + std::generic_category().message(errno));
  }

  /// Opens and locks the file that has the name now.
  void take_file() {
    for (;;) {
      file_ = detail::descriptor(
          ::open(path_.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666));
      if (!file_ && errno == ELOOP) refuse("is a link, where the journal of this run would be");
      if (!file_) fail();
      struct stat mine {
      }, named{};
      if (::fstat(file_.get(), &mine) != 0) fail();
      if (!S_ISREG(mine.st_mode)) refuse("is no regular file, where the journal of this run would be");
      if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        throw usage_error(
            path_ + ": another run of the same command is writing this journal; let it end, or name other outputs");
      // Another run may have taken its journal away between the two calls.
      if (::lstat(path_.c_str(), &named) == 0 && named.st_dev == mine.st_dev && named.st_ino == mine.st_ino) return;
    }
  }
  std::string read_file() {
    struct stat status {};
    if (::fstat(file_.get(), &status) != 0) fail();
    if (static_cast<std::uint64_t>(status.st_size) > most_bytes) refuse("is longer than a journal can be");
    std::string text(static_cast<std::size_t>(status.st_size), '\0');
    for (std::size_t at = 0; at < text.size();) {
      const ssize_t n = ::pread(file_.get(), text.data() + at, text.size() - at, static_cast<off_t>(at));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) refuse("cannot be read");
      at += static_cast<std::size_t>(n);
    }
    return text;
  }
  void append(const std::string& text) {
    if (::lseek(file_.get(), static_cast<off_t>(size_), SEEK_SET) < 0 ||
        !detail::write_all(file_.get(), std::as_bytes(std::span(text))) || !detail::flush_to_disk(file_.get())) {
      const int why = errno;
      if (::ftruncate(file_.get(), static_cast<off_t>(size_)) == 0 && size_ == 0) remove();
      errno = why;
      fail();
    }
    size_ += text.size();
  }

  std::string path_;
  detail::descriptor file_;
  std::size_t size_ = 0, head_size_ = 0;  ///< bytes; no head: the file is not known to be this run's
  std::map<std::string, json> parts_;
  std::map<std::string, std::string> taken_from_;  ///< files of parts that other runs did
  bool retains_ = false;
  std::mutex mutex_;
};

}  // namespace multistate::tools
