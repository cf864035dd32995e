#!/usr/bin/env python3
"""Puts plausible mistakes into a copy of the library, one by one, and expects the probe to notice each.

run.py [--cxx g++] [--jobs 2] [--only NAME] [--flag FLAG]...
Ends with status 0 when the unchanged library passes and every mistake is caught, 1 when one is not, 2 when a text to replace
does not stand where it should (then faults.py has to follow the code).
"""

import argparse
import array
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))
from faults import FAULTS  # noqa: E402

CASES = [  # file, policy, scope
    ("gqa_tova_layer_chunk", "tova", "layer"),
    ("gqa_h2o_head_seq", "h2o", "head"),
    ("mha_h2o_head_chunk", "h2o", "head"),
    ("mha_ref_h2o_layer_seq", "h2o", "layer"),
    ("mha_ref_h2o_head_normalised_seq", "h2o", "head"),
    ("mha_ref_tova_layer_pinned4_seq", "tova", "layer"),
    ("kplus1_tova_layer_seq", "tova", "layer"),
    ("kplus1_window_seq", "window", "layer"),
    ("k1_h2o_head_seq", "h2o", "head"),
    ("tie_ref_tova_head_chunk", "tova", "head"),
]


def tensors(path):
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__", None)
    data = raw[8 + length :]
    return {n: (t["shape"], data[t["data_offsets"][0] : t["data_offsets"][1]]) for n, t in header.items()}


def write_fixtures(to):
    folder = ROOT / "tests" / "data" / "golden" / "policy"
    with open(to, "wb") as out:
        out.write(b"%d\n" % len(CASES))
        for name, policy, scope in CASES:
            given, expected = tensors(folder / (name.split("_")[0] + "_inputs.safetensors")), tensors(folder / (name + ".safetensors"))
            number = lambda key: array.array("i", expected[key][1])[0]
            count, heads, dk = given["q"][0]
            _, kv_heads, dv = given["v"][0]
            steps, lanes, budget = expected["kept"][0]
            line = [name, policy, 0 if scope == "head" else 1, budget, number("start"), number("recent") if policy == "h2o" else -1,
                    int("normalised" in name), count, heads, kv_heads, dk, dv, steps, lanes]
            out.write((" ".join(map(str, line)) + "\n").encode())
            for source, key in ((given, "q"), (given, "k"), (given, "v"), (expected, "out"), (expected, "kept"), (expected, "step_end")):
                out.write(source[key][1])


def probe(work, name, options, fault=None):
    """Builds and runs the probe; returns (caught, what it said, seconds)."""
    start = time.monotonic()
    include = ROOT / "include"
    source, tested = HERE / "probe.cpp", []
    if fault is not None:
        file, old, new, *test = fault
        if test:
            source, tested = ROOT / "tests" / test[0], ["-lgtest", "-lgtest_main", "-lpthread"]
        include = work / name / "include"
        shutil.copytree(ROOT / "include", include)
        target = include / "multistate" / file
        text = target.read_text()
        places = list(re.finditer(r"\s*".join(re.escape(c) for c in old if not c.isspace()), text))  # however it is formatted
        if len(places) != 1:
            return None, f"the text to replace stands {len(places)} times in {file}", 0.0
        target.write_text(text[: places[0].start()] + new + text[places[0].end() :])
    program = work / (name + ".bin")
    built = subprocess.run([options.cxx, "-std=c++20", "-O1", "-DNDEBUG", "-w", *options.flag, f"-I{include}", f"-I{ROOT / 'tests'}",
                            str(source), "-o", str(program), *tested], capture_output=True, text=True)
    if built.returncode != 0:
        return None, "does not compile: " + built.stderr.strip()[:2000], 0.0
    try:
        ran = subprocess.run([str(program), str(work / "fixtures")], capture_output=True, text=True, timeout=120,
                             env={**os.environ, "MULTISTATE_TEST_ROUNDS": "0.5"})
        said, caught = ran.stdout.strip() or f"ended by signal {-ran.returncode}", ran.returncode != 0
        if tested:
            said = next((line for line in said.splitlines() if "Failure" in line), "its test passes" if not caught else said[-200:])
    except subprocess.TimeoutExpired:
        said, caught = "does not end", True
    program.unlink()
    return caught, said, time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cxx", default=os.environ.get("CXX", "g++"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="")
    parser.add_argument("--flag", action="append", default=[])
    options = parser.parse_args()
    status = 0
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        write_fixtures(work / "fixtures")
        caught, said, seconds = probe(work, "unchanged", options)
        print(f"{'ok' if caught is False else 'FAILED':9} unchanged library: {said} ({seconds:.1f} s)", flush=True)
        if caught is not False:
            return 1
        chosen = [f for f in FAULTS if options.only in f[0]]
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            results = pool.map(lambda f: (f[0], probe(work, f[0], options, f[1:])), chosen)
            for name, (caught, said, seconds) in results:
                print(f"{'ok' if caught else 'UNCLEAR' if caught is None else 'MISSED':9} {name}: {said} ({seconds:.1f} s)", flush=True)
                status = max(status, 0 if caught else 2 if caught is None else 1)
    return status


if __name__ == "__main__":
    sys.exit(main())
