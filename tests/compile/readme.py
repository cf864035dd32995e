#!/usr/bin/env python3
"""Compiles the code that the README shows. readme.py COMPILER SOURCE_DIRECTORY"""
import pathlib
import re
import subprocess
import sys
import tempfile

compiler, root = sys.argv[1], pathlib.Path(sys.argv[2])
readme = root / "README.md"
blocks = re.findall(r"```cpp\n(.*?)```", readme.read_text(), re.S)
loop, policy = blocks
includes = "".join(line + "\n" for line in loop.splitlines() if line.startswith("#include"))
body = "\n".join(line for line in loop.splitlines() if not line.startswith("#include"))
engine = """
void copy_state(std::size_t from, std::size_t to);
void store_key_and_value(std::size_t slot);
void my_attention(int head, const float* q, int live, float* weights);
void engine(const float* q, float* weights) {
"""
snippets = {"the loop": includes + engine + body + "\n}\n", "the policy": policy}
for name, code in snippets.items():
    with tempfile.NamedTemporaryFile("w", suffix=".cpp") as file:
        file.write(code)
        file.flush()
        if subprocess.run([compiler, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-I", root / "include", "-I", root / "tools" / "include", file.name]).returncode:
            sys.exit(f"{name} of {readme} does not compile")
print(f"{len(snippets)} snippets compile")
