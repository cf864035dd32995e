#!/usr/bin/env python3
"""No target brings a package that none of its own headers includes. brought_packages.py FILE, where each line of the file is a
part's name, what its target links, and its headers; between them tabs, within them semicolons."""
import pathlib
import re
import sys

# A package's target, and how the names of its headers begin.
HEADERS = {
    "hwy::hwy": "hwy/",
    "nlohmann_json::nlohmann_json": "nlohmann/",
    "CLI11::CLI11": "CLI/",
    "fmt::fmt": "fmt/",
    "Eigen3::Eigen": "Eigen/",
    "PCRE2::8BIT": "pcre2.h",
    "utf8proc::utf8proc": "utf8proc.h",
}

parts = [line.split("\t") for line in pathlib.Path(sys.argv[1]).read_text().splitlines()]
bad = 0
for part, links, headers in parts:
    included = {name for header in headers.split(";") for name in re.findall(r"^\s*#\s*include\s*<([^>]+)>", pathlib.Path(header).read_text(), re.M)}
    for package in filter(None, links.split(";")):
        if package.startswith("multistate") or package.startswith("$<LINK_ONLY:"):  # ours, or what nobody's headers see
            continue
        if package not in HEADERS:
            print(f"multistate::{part} brings {package}, whose headers this test does not know")
            bad += 1
        elif not any(name.startswith(HEADERS[package]) for name in included):
            print(f"multistate::{part} brings {package}, and none of its headers includes <{HEADERS[package]}...>")
            bad += 1
print(f"{len(parts)} targets, {bad} packages for nothing")
sys.exit(1 if bad or not parts else 0)
