#pragma once

#include <unistd.h>

#include <clocale>
#include <cstdlib>
#include <filesystem>
#include <locale>
#include <string>

namespace support {

/// While it lives, the program's locales of C and C++ write decimal commas and group thousands by points.
class comma_locale {
 public:
  comma_locale() {
    for (const char* name : {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "es_ES.UTF-8", "nl_NL.UTF-8"})
      if (std::setlocale(LC_ALL, name) != nullptr) break;
    if (!in_c()) make();
    std::locale::global(std::locale(std::locale::classic(), new punctuation));
  }
  comma_locale(const comma_locale&) = delete;
  comma_locale& operator=(const comma_locale&) = delete;
  ~comma_locale() {
    std::locale::global(std::locale::classic());
    std::setlocale(LC_ALL, "C");
    if (folder_.empty()) return;
    std::error_code none;
    std::filesystem::remove_all(folder_, none);
  }

  /// False where the machine has no such locale and could not make one: then C++ alone has it.
  bool in_c() const { return std::localeconv()->decimal_point == std::string(","); }

 private:
  struct punctuation : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
  };
  void make() {
    folder_ = std::filesystem::temp_directory_path() / ("multistate-locale-" + std::to_string(::getpid()));
    std::filesystem::create_directory(folder_);
    const std::string command =
        "localedef -i de_DE -f UTF-8 '" + (folder_ / "de_DE.UTF-8").string() + "' > /dev/null 2>&1";
    if (std::system(command.c_str()) != 0) return;
    ::setenv("LOCPATH", folder_.c_str(), 1);
    std::setlocale(LC_ALL, "de_DE.UTF-8");
    ::unsetenv("LOCPATH");
  }
  std::filesystem::path folder_;
};

}  // namespace support
