#!/usr/bin/env python3
"""bench/ggml/collect.py FILE...: the results of products_bench for several SIMD targets as one file, on standard output."""

import json
import re
import sys

FIELDS = ["time_us", "limit_share", "share_min", "share_max", "GFLOPS", "GB/s", "ggml_us", "vs_ggml", "vs_ggml_min", "vs_ggml_max"]
CONTEXT = ["date", "cpu", "compiler", "flags", "simd target", "GB/s cold, threads 1", "GB/s cold, threads 2", "GFLOPS, threads 1", "GFLOPS, threads 2"]


def run_of(path):
    with open(path, encoding="utf-8") as file:
        results = json.load(file)
    cases = {}
    for case in results["benchmarks"]:
        name = re.sub(r"/iterations:\d+|/manual_time", "", case["name"])
        cases[name] = {key: float(f"{case[key]:.4g}") for key in FIELDS if key in case} | ({"disturbed": True} if case.get("disturbed") else {})
    return {"context": {key: results["context"][key] for key in CONTEXT if key in results["context"]}, "cases": cases}


def main():
    runs = [run_of(path) for path in sys.argv[1:]]
    lines = []
    for run in runs:
        cases = ",\n".join(f"   {json.dumps(name)}: {json.dumps(case)}" for name, case in run["cases"].items())
        lines.append(f' {{"context": {json.dumps(run["context"])},\n  "cases": {{\n{cases}\n  }}}}')
    print("[\n" + ",\n".join(lines) + "\n]")


if __name__ == "__main__":
    main()
