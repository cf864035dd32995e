#!/usr/bin/env python3
"""`replay` from the command line: every recorded case, and bad usage. replay_test.py REPLAY"""
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

replay = sys.argv[1]
data = pathlib.Path(__file__).resolve().parent.parent / "data" / "golden" / "policy"
INPUTS = {"mha": (24, 64, 16), "gqa": (33, 64, 16), "k1": (1, 0, 0), "kplus1": (4, 0, 0), "tie": (5, 8, 4)}  # k, prompt, chunk
failures = []


def run(*arguments):
    return subprocess.run([replay, *map(str, arguments)], capture_output=True, text=True, timeout=120)


def check(what, good):
    if not good:
        failures.append(what)
        print("FAILED", what)


def case_of(name):
    """tie_ref_tova_head_chunk -> inputs, policy string, arguments."""
    inputs, *rest = [part for part in name.split("_") if part != "ref"]
    k, prompt, chunk = INPUTS[inputs]
    if rest[0] == "full":
        return inputs, "full", []
    if rest[0].startswith("window"):
        sinks = rest[0][len("window"):]
        return inputs, f"window{'+' + sinks if sinks else ''}:{k}", []
    policy = f"{rest[0]}:{k},scope={rest[1]}"
    for part in rest[2:-1]:
        policy += ",normalised=true" if part == "normalised" else ",pinned=" + part.removeprefix("pinned")
    return inputs, policy, {"seq": [], "oneshot": ["--prompt", prompt], "chunk": ["--chunk", chunk]}[rest[-1]]


cases = sorted(p for p in data.glob("*.safetensors") if not p.stem.endswith("_inputs"))
check("there are recorded cases", len(cases) > 30)
for file in cases:
    inputs, policy, arguments = case_of(file.stem)
    got = run(data / f"{inputs}_inputs.safetensors", "--policy", policy, "--expect", file, "--json", "-", *arguments)
    figures = json.loads(got.stdout) if got.returncode in (0, 1) else {}
    check(f"{file.stem}: {got.stderr}", got.returncode == 0 and figures["kept_mismatches"] in (0, None) and figures["max_abs_error"] <= 1e-5)

mha = data / "mha_inputs.safetensors"
with tempfile.TemporaryDirectory() as folder:
    out = pathlib.Path(folder) / "out.safetensors"
    check("its own output is what it expects", run(mha, "--policy", "tova:24", "--out", out).returncode == 0 and run(mha, "--policy", "tova:24", "--expect", out).returncode == 0)
    check("another policy differs", run(mha, "--policy", "h2o:24,scope=layer", "--expect", out).returncode == 1)
    check("int8 runs", run(mha, "--policy", "tova:24", "--format", "i8").returncode == 0)
    check("fp16 differs by more than 1e-5", run(mha, "--policy", "tova:24", "--format", "f16", "--expect", out, "--tolerance", "1e-5").returncode == 1)
    check("a prompt in chunks, then one by one", run(mha, "--policy", "tova:24", "--prompt", 64, "--chunk", 16).returncode == 0)
    raw = mha.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    nan = pathlib.Path(folder) / "nan.safetensors"
    nan.write_bytes(raw[: 8 + length] + struct.pack("<f", float("nan")) + raw[12 + length :])
    cut = pathlib.Path(folder) / "cut.safetensors"
    cut.write_bytes(raw[:-5])
    bad = {
        "no policy": [mha],
        "unknown policy": [mha, "--policy", "tovax:4"],
        "budget 0": [mha, "--policy", "tova:0"],
        "no budget": [mha, "--policy", "tova"],
        "protected beyond the budget": [mha, "--policy", "h2o:8,recent=9"],
        "position mode": [mha, "--policy", "window+4:24@incache"],
        "unknown format": [mha, "--policy", "tova:24", "--format", "f8"],
        "prompt beyond the end": [mha, "--policy", "tova:24", "--prompt", 97],
        "chunk 0": [mha, "--policy", "tova:24", "--chunk", 0],
        "tolerance of another country": [mha, "--policy", "tova:24", "--tolerance", "0,5"],
        "no such file": ["nowhere.safetensors", "--policy", "tova:24"],
        "no recording": [data / "mha_full.safetensors", "--policy", "tova:24"],
        "truncated": [cut, "--policy", "tova:24"],
        "NaN": [nan, "--policy", "tova:24"],
        "expected of other shape": [mha, "--policy", "tova:20", "--expect", data / "mha_tova_layer_seq.safetensors"],
        "absurd budget": [mha, "--policy", "tova:268435456"],
    }
    for what, arguments in bad.items():
        got = run(*arguments)
        check(f"{what}: status 2 and one line, got {got.returncode}: {got.stderr}", got.returncode == 2 and got.stderr.count("\n") == 1)

print(f"{len(cases)} recorded cases, {len(bad)} kinds of bad usage: {'all well' if not failures else f'{len(failures)} failed'}")
sys.exit(1 if failures else 0)
