"""What the end-to-end scripts share: running a program, and counting what is wrong."""

import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

failures = 0


def check(condition, what):
    global failures
    if not condition:
        failures += 1
        print(f"FAILED {what}")


def run(program, *arguments, cwd="/", timeout=280):
    return subprocess.run([program, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, errors="replace", timeout=timeout)


def refuses(program, *arguments, says):
    """Exit status 2, one line on stderr that says it, nothing on stdout."""
    done = run(program, *arguments)
    what = " ".join(map(str, arguments))
    check(done.returncode == 2, f"{what}: exit status {done.returncode}, should be 2")
    check(done.stdout == "", f"{what}: prints on stdout: {done.stdout[:200]}")
    lines = done.stderr.splitlines()
    check(len(lines) == 1 and says in lines[0], f"{what}: should say '{says}' in one line; says {done.stderr[:400]!r}")


def works(program, *arguments, **options):
    done = run(program, *arguments, **options)
    check(done.returncode == 0, f"{' '.join(map(str, arguments))}: exit status {done.returncode}: {done.stderr[:400]}")
    return done


def leaves(folder, *names):
    """The folder holds these files and no other."""
    found = sorted(p.name for p in pathlib.Path(folder).iterdir())
    check(found == sorted(names), f"{folder} should hold {sorted(names)}; holds {found}")


def tiny_llama2c(folder, vocab):
    """A llama2.c checkpoint of random weights: one layer, BOS 1."""
    dim, heads, context = 8, 2, 64
    count = vocab * dim + 2 * dim + 7 * dim * dim + dim + context * dim // heads
    draw = random.Random(1)
    model = folder / "model.bin"
    model.write_bytes(struct.pack("<7i", dim, dim, 1, heads, heads, vocab, context) + struct.pack(f"<{count}f", *(draw.gauss(0, 1) for _ in range(count))))
    return model


def llama2c_tokenizer(path, pieces):
    """A tokenizer file: marks, bytes, then pieces with their scores."""
    pieces = [(p, 0.0) for p in [b"<unk>", b"\n<s>\n", b"\n</s>\n", *(b"<0x%02X>" % i for i in range(256))]] + pieces
    path.write_bytes(struct.pack("<i", max(len(p) for p, _ in pieces)) + b"".join(struct.pack("<fi", score, len(p)) + p for p, score in pieces))
    return len(pieces)


def read_safetensors(path):
    """Header and the bytes behind it."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def write_safetensors(path, tensors):
    """{name: (dtype, shape, bytes)}"""
    header, data = {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def temporary():
    return tempfile.TemporaryDirectory(prefix="multistate-")


def finish():
    print("failed" if failures else "all well", f"({failures} failures)")
    sys.exit(1 if failures else 0)


def arguments():
    """PROGRAM [SHARED]: absolute path of the program; the folder of shared data where there is one."""
    program = str(pathlib.Path(sys.argv[1]).resolve())
    shared = pathlib.Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else None
    return program, shared if shared is not None and shared.is_dir() else None
