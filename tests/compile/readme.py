#!/usr/bin/env python3
"""Compiles the code that the README shows. readme.py COMPILER INCLUDE_DIRECTORY README"""
import pathlib
import re
import subprocess
import sys
import tempfile

compiler, include, readme = sys.argv[1:]
blocks = re.findall(r"```cpp\n(.*?)```", pathlib.Path(readme).read_text(), re.S)
loop, policy = blocks
includes = "".join(line + "\n" for line in loop.splitlines() if line.startswith("#include"))
body = "\n".join(line for line in loop.splitlines() if not line.startswith("#include"))
snippets = {
    "the loop": includes + "void engine(const float* q, float* weights, void (*my_attention)(int, const float*, int, float*)) {\n" + body + "\n(void)what; }\n",
    "the policy": policy,
}
snippets["the loop with lanes for each head"] = snippets["the loop"].replace("tova", "h2o")
for name, code in snippets.items():
    with tempfile.NamedTemporaryFile("w", suffix=".cpp") as file:
        file.write(code)
        file.flush()
        if subprocess.run([compiler, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-I", include, file.name]).returncode:
            sys.exit(f"{name} of {readme} does not compile")
print(f"{len(snippets)} snippets compile")
