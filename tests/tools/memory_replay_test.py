#!/usr/bin/env python3
"""`replay --memory` from the command line: every recorded memory, altered values, other shapes, bad files.
memory_replay_test.py REPLAY SHARED"""
import json
import math
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

replay = sys.argv[1]
recorded = sorted((pathlib.Path(sys.argv[2]) / "golden" / "closed").glob("*.safetensors"))
INPUTS = {"q", "k", "v", "q_pre", "k_pre", "beta", "alpha", "theta", "eta", "check", "segment", "bounds", "orders", "cut"}
failures = []


def run(path, *more):
    return subprocess.run([replay, str(path), "--memory", *more], capture_output=True, text=True, timeout=120)


def check(text, good):
    if not good:
        failures.append(text)
        print("FAILED", text)


def read(path):
    """metadata, {name: [dtype, shape, values]}"""
    raw = path.read_bytes()
    end = 8 + struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:end])
    tensors = {}
    for name, t in header.items():
        if name != "__metadata__":
            begin, last = (end + at for at in t["data_offsets"])
            letter = {"F32": "f", "I32": "i"}[t["dtype"]]
            tensors[name] = [t["dtype"], t["shape"], list(struct.unpack(f"<{(last - begin) // 4}{letter}", raw[begin:last]))]
    return header.get("__metadata__"), tensors


def write(path, metadata, tensors):
    header, data = {} if metadata is None else {"__metadata__": metadata}, b""
    for name, (dtype, shape, values) in tensors.items():
        raw = struct.pack(f"<{len(values)}{'f' if dtype == 'F32' else 'i'}", *values)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def gated_delta(rng, tokens, heads, dk, dv):
    """A recording by the equation, in plain Python."""
    normal = lambda count, scale=0.4: [rng.gauss(0, 1) * scale for _ in range(count)]
    q, k, v = normal(tokens * heads * dk), normal(tokens * heads * dk), normal(tokens * heads * dv)
    alpha, beta = ([rng.random() for _ in range(tokens * heads)] for _ in range(2))
    out = [0.0] * (tokens * heads * dv)
    for h in range(heads):
        m = [[0.0] * dv for _ in range(dk)]
        for t in range(tokens):
            at = t * heads + h
            key, value, query = k[at * dk : (at + 1) * dk], v[at * dv : (at + 1) * dv], q[at * dk : (at + 1) * dk]
            m = [[alpha[at] * x for x in line] for line in m]
            error = [value[j] - sum(key[i] * m[i][j] for i in range(dk)) for j in range(dv)]
            m = [[m[i][j] + beta[at] * key[i] * error[j] for j in range(dv)] for i in range(dk)]
            out[at * dv : (at + 1) * dv] = [sum(query[i] * m[i][j] for i in range(dk)) for j in range(dv)]
    f = lambda values, *shape: ["F32", list(shape), values]
    return {"q": f(q, tokens, heads, dk), "k": f(k, tokens, heads, dk), "v": f(v, tokens, heads, dv),
            "alpha": f(alpha, tokens, heads), "beta": f(beta, tokens, heads), "out": f(out, tokens, heads, dv)}


rng = random.Random(3)
altered = 0
with tempfile.TemporaryDirectory(prefix="multistate-") as folder:
    file = pathlib.Path(folder) / "x.safetensors"
    for path in recorded:
        got = run(path)
        check(f"{path.stem}: {got.stdout}{got.stderr}", got.returncode == 0 and got.stdout.endswith("same\n"))
        metadata, tensors = read(path)
        for name in tensors.keys() - INPUTS - {"theta", "not_out"} - ({"score"} if path.stem == "aaren_scan" else set()):
            values = list(tensors[name][2])
            at = rng.randrange(len(values))
            values[at] = 0.5 if math.isinf(values[at]) else values[at] + 0.01 * max(1, abs(values[at]))
            write(file, metadata, {**tensors, name: [*tensors[name][:2], values]})
            got = run(file)
            check(f"{path.stem}: {name} altered is noticed: {got.stdout}{got.stderr}", got.returncode == 1 and f"\n{name} differs by" in got.stdout)
            altered += 1
        write(file, metadata, {**tensors, "v": [*tensors["v"][:2], [x + 1 for x in tensors["v"][2]]]})
        check(f"{path.stem}: other values", run(file).returncode == 1)
        if "not_out" in tensors:
            write(file, metadata, {**tensors, "not_out": tensors["out"]})
            check(f"{path.stem}: what must differ and does not", run(file).returncode == 1)

    for shape in [(1, 1, 1, 1), (9, 2, 3, 5), (30, 1, 7, 2)]:
        tensors = gated_delta(rng, *shape)
        write(file, {"rule": "gated_delta"}, tensors)
        got = run(file, "--json", "-")
        check(f"gated delta {shape}: {got.stdout}{got.stderr}", got.returncode == 0 and json.loads(got.stdout)["same"] is True)
    bad = {
        "no metadata": (None, tensors),
        "no rule": ({"policy": "tova"}, tensors),
        "an unknown rule": ({"rule": "gated"}, tensors),
        "nothing expected": ({"rule": "gated_delta"}, {name: t for name, t in tensors.items() if name != "out"}),
        "no alpha": ({"rule": "gated_delta"}, {name: t for name, t in tensors.items() if name != "alpha"}),
        "another shape": ({"rule": "gated_delta"}, {**tensors, "out": ["F32", [30, 2, 1], tensors["out"][2]]}),
        "NaN": ({"rule": "gated_delta"}, {**tensors, "alpha": ["F32", [30, 1], [math.nan] * 30]}),
        "a token that is none": ({"rule": "gated_delta"}, {**tensors, "check": ["I32", [1], [30]], "M": ["F32", [1, 1, 7, 2], [0.0] * 14]}),
        "no segment": ({"rule": "infini"}, tensors),
        "edges out of order": ({"rule": "softmax"}, {"score": ["F32", [2], [0.0, 1.0]], "v": ["F32", [2, 1], [0.0, 1.0]], "bounds": ["I32", [3], [0, 2, 1]]}),
        "a memory that no machine has": ({"rule": "sum"}, {"q": ["F32", [1, 1, 5000], [0.0] * 5000], "k": ["F32", [1, 1, 5000], [0.0] * 5000], "v": ["F32", [1, 1, 5000], [0.0] * 5000]}),
    }
    for text, (metadata, tensors) in bad.items():
        write(file, metadata, tensors)
        got = run(file)
        check(f"{text}: status 2 and one line, got {got.returncode}: {got.stderr}", got.returncode == 2 and got.stderr.count("\n") == 1)
    for more in (["--policy", "tova:4"], ["--out", "x"], ["--chunk", "2"]):
        check(f"--memory with {more}", run(file, *more).returncode == 2)
    check("neither", subprocess.run([replay, str(file)], capture_output=True, timeout=60).returncode == 2)

print(f"{len(recorded)} recorded memories, {altered} altered values: {'all well' if not failures else f'{len(failures)} failed'}")
sys.exit(1 if failures else 0)
