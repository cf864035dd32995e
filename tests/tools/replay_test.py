#!/usr/bin/env python3
"""`replay` from the command line: every recorded case, and bad usage. replay_test.py REPLAY"""
import json
import math
import pathlib
import struct
import subprocess
import sys
import tempfile

from common import write_safetensors

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

# Cases that name their policy and their calls themselves; and each of them altered in its last kept position.
later = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else "../shared") / "golden" / "policies2"
known = ("a2sf", "adakv", "critical", "expected", "keydiff", "lagkv", "max_", "quota", "rkv", "snap_", "tri_", "z_")
later_cases = [p for p in sorted(later.glob("*.safetensors")) if p.stem.startswith(known) and not p.stem.endswith("_inputs")] if later.is_dir() else []
if not later_cases:
    print(f"skipped: no cases of later policies in {later}")
with tempfile.TemporaryDirectory() as folder:
    for file in later_cases:
        raw = file.read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        header = json.loads(raw[8 : 8 + length])
        inputs = later / (header["__metadata__"]["inputs"] + ".safetensors")
        got = run(inputs, "--expect", file)
        check(f"{file.stem}: {got.stdout}{got.stderr}", got.returncode == 0)
        last = 8 + length + header["kept"]["data_offsets"][1] - 4
        altered = pathlib.Path(folder) / file.name
        altered.write_bytes(raw[:last] + struct.pack("<i", 7777) + raw[last + 4 :])
        check(f"{file.stem} altered", run(inputs, "--expect", altered).returncode == 1)

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
    # Equal keys, rotated: with k_pre, in either file, they tie and the oldest goes.
    tokens, width = 40, 8
    before = [-1.0, 0.2, -0.5, 0.4, 0.5, -1.7, -1.9, 1.3]

    def turned(t):
        pairs = [(before[i], before[i + 4], t / 10000 ** (i / 4)) for i in range(4)]
        return [a * math.cos(x) - b * math.sin(x) for a, b, x in pairs] + [b * math.cos(x) + a * math.sin(x) for a, b, x in pairs]

    def floats(rows):
        return ("F32", [tokens, 1, width], struct.pack(f"<{tokens * width}f", *(x for row in rows for x in row)))

    rows = {"q": floats([before] * tokens), "k": floats(map(turned, range(tokens))), "v": floats([before] * tokens)}
    keys = floats([before] * tokens)
    with_keys, without, side = (pathlib.Path(folder) / name for name in ("with", "without", "side"))
    write_safetensors(with_keys, rows | {"k_pre": keys})
    write_safetensors(without, rows)
    for arguments, calls in ([], range(1, 41)), (["--chunk", 7], [7, 14, 21, 28, 35, 40]), (["--prompt", 20], [20, *range(21, 41)]):
        kept = [p for end in calls for p in [*range(max(0, end - 5), end), *[-1] * (5 - end)][:5]]
        write_safetensors(side, {"kept": ("I32", [len(calls), 1, 5], struct.pack(f"<{len(kept)}i", *kept))})
        check(f"equal keys tie {arguments}", run(with_keys, "--policy", "knorm:5", "--expect", side, *arguments).returncode == 0)
        check(f"rounding decides among rotated keys {arguments}", run(without, "--policy", "knorm:5", "--expect", side, *arguments).returncode == 1)
        write_safetensors(side, {"kept": ("I32", [len(calls), 1, 5], struct.pack(f"<{len(kept)}i", *kept)), "k_pre": keys})
        check(f"k_pre beside what is expected {arguments}", run(without, "--policy", "knorm:5", "--expect", side, *arguments).returncode == 0)

    huge, odd, endless = (pathlib.Path(folder) / name for name in ("huge", "odd", "endless"))
    write_safetensors(huge, rows | {"v": floats([before] * 3 + [[7e4] * width] + [before] * (tokens - 4))})
    write_safetensors(odd, rows | {"k_pre": ("F32", [tokens, width], keys[2])})
    write_safetensors(endless, rows | {"k_pre": floats([[math.inf] * width] * tokens)})
    for format in "f32", "bf16", "i8":
        check(f"{format} holds 7e4", run(huge, "--policy", "tova:5", "--format", format).returncode == 0)
    check("f16 does not, and is named", "states in f16 overflow: the value of token 3" in run(huge, "--policy", "tova:5", "--format", "f16").stderr)
    bad = {
        "beyond f16": [huge, "--policy", "tova:5", "--format", "f16"],
        "k_pre of another shape": [odd, "--policy", "knorm:5"],
        "k_pre not finite": [endless, "--policy", "knorm:5"],
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
        "expected of other lanes": [mha, "--policy", "tova:24,scope=head", "--expect", data / "mha_tova_layer_seq.safetensors"],
        "absurd budget": [mha, "--policy", "tova:268435456"],
        "one file for two outputs": [mha, "--policy", "tova:24", "--out", out, "--json", out],
        "the expected file as output": [mha, "--policy", "tova:24", "--out", out, "--expect", out],
        "the recording as output": [mha, "--policy", "tova:24", "--json", mha],
        "tensors on standard output": [mha, "--policy", "tova:24", "--out", "-"],
        "no such folder": [mha, "--policy", "tova:24", "--json", pathlib.Path(folder) / "no" / "x.json"],
        "a full disk": [mha, "--policy", "tova:24", "--out", "/dev/full"],
    }
    for what, arguments in bad.items():
        got = run(*arguments)
        check(f"{what}: status 2 and one line, got {got.returncode}: {got.stderr}", got.returncode == 2 and got.stderr.count("\n") == 1)

    check("refusals leave the recording alone", mha.read_bytes() == raw)
    for more in ([], ["--json", "-"]):
        with open("/dev/full", "w") as full:
            got = subprocess.run([replay, mha, "--policy", "tova:24", *more], stdout=full, stderr=subprocess.PIPE, text=True)
        check(f"standard output on a full disk {more}: {got.stderr}", got.returncode == 2 and "standard output" in got.stderr and got.stderr.count("\n") == 1)

print(f"{len(cases)} recorded cases, {len(bad)} kinds of bad usage: {'all well' if not failures else f'{len(failures)} failed'}")
sys.exit(1 if failures else 0)
