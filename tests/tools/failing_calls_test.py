#!/usr/bin/env python3
"""The n-th open, write, fsync, ... made to fail, for each n: failing_calls_test.py COMPILER COMPARE REPLAY

Each time: status 2 and one line, and older outputs as they were; or, where a program can do without the call, the same
outputs as ever. Nothing but a journal is left lying about, and the next run is right."""

import json
import os
import pathlib
import subprocess
import sys

from common import check, finish, temporary

ROOT = pathlib.Path(__file__).resolve().parents[2]
compiler, compare, replay = sys.argv[1], *(str(pathlib.Path(p).resolve()) for p in sys.argv[2:4])


def content(path):
    if path.suffix != ".json":
        return path.read_bytes()
    report = json.loads(path.read_text())
    report["notes"] = [n for n in report.get("notes", []) if "went on from" not in n]
    return report


def each_failure(shim, folder, command, names, calls, more=()):
    """Returns how many calls were made to fail."""
    environment = dict(os.environ, ASAN_OPTIONS="verify_asan_link_order=0", **dict(more))
    first = subprocess.run(command, capture_output=True, text=True, env=environment)
    check(first.returncode == 0, f"{command}: {first.returncode} {first.stderr}")
    right = {n: content(folder / n) for n in names}
    failed = folder.parent / "failed"
    count = 0
    for call in calls:
        for n in range(1, 500):
            for name in names:
                (folder / name).write_text(f"older {name}")
            old = {name: (folder / name).read_bytes() for name in names}
            failed.unlink(missing_ok=True)
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=dict(environment, LD_PRELOAD=str(shim), FAIL=f"{call}:{n}", FAILED=str(failed)))
            if not failed.exists():
                break
            count += 1
            what = f"{pathlib.Path(command[0]).name}, {call} {n}: {done.returncode} {done.stderr[:200]!r}"
            check(done.returncode in (0, 2), what)
            if done.returncode == 2:
                check(len(done.stderr.splitlines()) == 1, f"one line: {what}")
                for name in names:
                    now = (folder / name).read_bytes()
                    check(now == old[name] or content(folder / name) == right[name], f"{name} is whole, old or new: {what}")
            else:
                check(all(content(folder / name) == right[name] for name in names), f"right: {what}")
            check(not [p for p in folder.iterdir() if p.name not in names and p.suffix != ".partial"], f"nothing is left: {what} {list(folder.iterdir())}")
            if list(folder.glob("*.partial")):
                again = subprocess.run(command, capture_output=True, text=True, env=environment)
                check(again.returncode == 0 and all(content(folder / name) == right[name] for name in names), f"the next run is right: {what}: {again.stderr}")
                check(not list(folder.glob("*.partial")), f"and takes its journal away: {what}")
    return count


def main():
    with temporary() as name:
        top = pathlib.Path(name)
        shim, folder = top / "failing_calls.so", top / "out"
        folder.mkdir()
        built = subprocess.run([compiler, "-std=c++20", "-O1", "-shared", "-fPIC", "-o", shim, pathlib.Path(__file__).with_name("failing_calls.cpp"), "-ldl"], capture_output=True, text=True)
        check(built.returncode == 0, f"the shim is built: {built.stderr}")
        if built.returncode != 0:
            finish()
        calls = ["open", "write", "fsync", "rename", "linkat", "fchmod", "ftruncate"]
        recording = ROOT / "tests/data/golden/policy/mha_inputs.safetensors"
        command = [replay, str(recording), "--policy", "tova:24", "--out", str(folder / "x.safetensors"), "--json", str(folder / "x.json")]
        count = each_failure(shim, folder, command, ["x.safetensors", "x.json"], calls)
        for path in folder.iterdir():
            path.unlink()
        text = top / "text.txt"
        text.write_bytes((ROOT / "examples/data/story.txt").read_bytes()[:60])
        command = [compare, "--text", str(text), "--window", "16", "--budgets", "4", "--policies", "tova,short", "--threads", "1", "--quiet", "--json", str(folder / "x.json"), "--csv", str(folder / "x.csv")]
        for more in ({}, {"NO_TMPFILE": "1", "LD_PRELOAD": str(shim)}):
            count += each_failure(shim, folder, command, ["x.json", "x.csv"], calls, more.items())
        check(count > 60, f"calls were made to fail: {count}")
        print(f"{count} calls made to fail")
    finish()


main()
