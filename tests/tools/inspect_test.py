#!/usr/bin/env python3
"""End to end: inspect_test.py PATH/TO/inspect [SHARED]"""

import json
import pathlib
import struct

from common import arguments, check, finish, leaves, llama2c_tokenizer, refuses, run, temporary, tiny_llama2c, works

DATA = pathlib.Path(__file__).resolve().parents[2] / "examples" / "data"


def ids_of(program, model, text, *more):
    """The ids of a file's bytes, from standard output and from --out, which must be the same."""
    shown = [int(line) for line in works(program, "--model", model, "--tokenize", text, *more).stdout.split()]
    out = text.with_suffix(".tokens")
    done = works(program, "--model", model, "--tokenize", text, "--out", out, *more)
    raw = out.read_bytes()
    check(done.stdout == "" and list(struct.unpack(f"<{len(raw) // 4}i", raw)) == shown, f"{text}: the same ids in --out")
    return shown


def words(program, folder):
    home = folder / "llama2c"
    home.mkdir()
    model = tiny_llama2c(home, 259 + 4)
    text = home / "text.txt"
    text.write_bytes(b"a b\xff")
    refuses(program, "--model", model, "--tokenize", text, says="tokenizer")
    llama2c_tokenizer(home / "tokenizer.bin", [(b" ", 0.0), (b"a", 0.0), (b" a", 1.0), (b"b", 0.0)])
    plain = [261, 259, 262, 3 + 0xff]
    check(ids_of(program, model, text) == [1, *plain], "BOS as the tokenizer does")
    check(ids_of(program, model, text, "--bos", "yes") == [1, *plain], "BOS")
    check(ids_of(program, model, text, "--bos", "no") == plain, "no BOS")
    back = home / "back.txt"
    works(program, "--model", model, "--detokenize", home / "text.tokens", "--out", back)
    check(back.read_bytes().endswith(b"a b\xff"), f"bytes come back: {back.read_bytes()}")
    leaves(home, "back.txt", "model.bin", "text.tokens", "text.txt", "tokenizer.bin")


def tensors_of(path):
    """Names, shapes and raw bytes of a .safetensors file."""
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + length])
    data = raw[8 + length :]
    return {name: (t["shape"], data[slice(*t["data_offsets"])]) for name, t in header.items() if name != "__metadata__"}


def numbers(program, folder):
    home = folder / "numbers"
    home.mkdir()
    demo, tokens, out = DATA / "demo_model", home / "a.tokens", home / "out.safetensors"
    tokens.write_bytes(struct.pack("<5i", 1, 2, 3, 4, 5))
    works(program, "--model", demo, "--logits", tokens, "--greedy", 3, "--out", out)
    got = tensors_of(out)
    check(got["logits"][0][0] == 5 and got["greedy"][0] == [3], "shapes of logits and greedy")
    vocab = got["logits"][0][1]
    all_logits = struct.unpack(f"<{5 * vocab}f", got["logits"][1])
    last = all_logits[-vocab:]
    check(struct.unpack("<3i", got["greedy"][1])[0] == last.index(max(last)), "the first greedy token is the likeliest")
    works(program, "--model", demo, "--tensor", "model.norm.weight", "--out", out)
    check(len(tensors_of(out)["value"][0]) == 1, "a tensor's numbers")
    for wrong, says in [
        (["--tensor", "nothing", "--out", out], "has no tensor nothing"),
        (["--tensor", "nothing"], "needs --out"),
        (["--logits", tokens], "needs --out"),
        (["--logits", tokens, "--context", 4, "--out", out], "--context 4 is less than the 5 tokens"),
    ]:
        refuses(program, "--model", demo, *wrong, says=says)


def fixtures(program, folder, shared):
    """Files of ../shared: what must load, what must be refused in one line."""
    models = shared and pathlib.Path(shared) / "golden" / "models"
    if not models or not models.is_dir():
        print("skipped: no golden/models")
        return
    for file in sorted((models / "broken_gguf").glob("*.gguf")):
        if file.stem == "valid":
            works(program, "--model", file)
        else:
            refuses(program, "--model", file, says=file.name)
    refuses(program, "--model", models / "gpt_oss", says="gpt_oss")
    for name in ["gemma3", "phi3", "smollm3"]:
        check("layers" in works(program, "--model", models / name).stdout, name)


def bad_usage(program, folder):
    text = folder / "text.txt"
    text.write_text("a")
    demo = DATA / "demo_model"
    for wrong, says in [
        ([], "--model"),
        (["--model", "/nowhere"], "no such file"),
        (["--model", demo, "--tokenize", text, "--bos", "perhaps"], "--bos must be"),
        (["--model", demo, "--tokenize", text, "--special", "perhaps"], "--special must be"),
        (["--model", demo, "--tokenize", text, "--detokenize", text], "--detokenize"),
        (["--model", demo, "--tokenize", text, "--out", text], "is a file of --tokenize too"),
        (["--model", demo, "--detokenize", text], "must be int32 ids"),
    ]:
        refuses(program, *wrong, says=says)
    check("inspect 0." in run(program, "--version").stdout, "--version says which")
    check("layers" in works(program, "--model", demo).stdout, "says what is in the model")


def main():
    program, shared = arguments()
    with temporary() as name:
        folder = pathlib.Path(name)
        bad_usage(program, folder)
        words(program, folder)
        numbers(program, folder)
        fixtures(program, folder, shared)
    finish()


main()
