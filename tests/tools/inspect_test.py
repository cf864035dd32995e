#!/usr/bin/env python3
"""End to end: inspect_test.py PATH/TO/inspect [SHARED]"""

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
    finish()


main()
