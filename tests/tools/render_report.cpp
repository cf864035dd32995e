// render_report IN.json OUT.html: the page of a result that compare wrote before.

#include <clocale>
#include <fstream>

#include <tools/report/html_report.hpp>

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  std::setlocale(LC_ALL, "");  // as a program may that has windows and menus
  std::ifstream in(argv[1]);
  std::ofstream out(argv[2]);
  out << multistate::tools::to_html(nlohmann::ordered_json::parse(in));
  return in.bad() || !out ? 1 : 0;
}
