#!/usr/bin/env python3
"""End to end: generate_test.py PATH/TO/generate [SHARED]"""

import json
import os
import pathlib
import signal
import subprocess
import time

from common import arguments, check, finish, llama2c_tokenizer, refuses, run, temporary, tiny_llama2c, works


DATA = pathlib.Path(__file__).resolve().parents[2] / "examples" / "data"


def bad_usage(generate):
    for arguments, says in [
        (["--policy", "nonsense:3"], "no policy is called 'nonsense'"),
        (["--policy", "tova"], "needs a budget"),
        (["--policy", "full"], "--tokens N"),
        (["--policy", "tova:8@near"], "there are @incache and @log"),
        (["--tokens", "0"], "--tokens must be a whole number from 1"),
        (["--seed", "x"], "--seed must be a whole number"),
        (["--temperature", "-1"], "--temperature must be a number from 0"),
        (["--temperature", "nan"], "--temperature must be a number from 0"),
        (["--model", "/nowhere"], "no such file"),
        (["--nonsense"], "--nonsense"),
    ]:
        refuses(generate, *arguments, says=says)
    check(run(generate, "--help").returncode == 0, "--help ends with 0")
    check("generate 0." in run(generate, "--version").stdout, "--version says which")


def made(generate, folder, *arguments):
    out = folder / "out.json"
    done = works(generate, "--tokens", 300, "--json", out, *arguments)
    return done, json.loads(out.read_text())


def text(generate, folder):
    done, report = made(generate, folder, "--policy", "tova:32", "--prompt", "The old house stood", "--seed", 7)
    check(done.stdout == "The old house stood" + report["text"] + "\n", "prompt and text are streamed")
    check(report["tokens_made"] == 300 and len(report["tokens"]) == 300 and report["tokens_seen"] == 320, "as many as asked for, and BOS")
    check(len(report["kept"]) == 6, "one list a layer")
    for layer in report["kept"]:
        p = layer["positions"]
        check(len(p) == 32 and p == sorted(set(p)) and p[-1] < 320 and layer["text"], f"layer {layer['layer']}: what is kept")
    check("remembered of 320 tokens under tova:32" in done.stderr and "kB allocated" in done.stderr and "tokens/s" not in done.stderr, "what is remembered is shown")
    check(made(generate, folder, "--policy", "tova:32", "--prompt", "The old house stood", "--seed", 7)[1] == report, "the same seed, the same text")
    check(made(generate, folder, "--policy", "tova:32", "--prompt", "The old house stood", "--seed", 8)[1]["text"] != report["text"], "another seed, another text")
    cold = [made(generate, folder, "--policy", "full", "--prompt", "The ", "--temperature", 0, "--seed", seed)[1]["text"] for seed in (1, 2)]
    check(cold[0] == cold[1], "temperature 0 draws nothing")
    large = made(generate, folder, "--policy", "tova:5000", "--prompt", "The ", "--temperature", 0)[1]["text"]
    check(large == cold[0], "nothing forgotten is Full")
    log = made(generate, folder, "--policy", "window+4:16@log")[1]
    check(log["policy"] == "window+4:16@log", "what was chosen is told: " + log["policy"])
    check(log["text"] != made(generate, folder, "--policy", "window+4:16")[1]["text"], "another text than with original positions")
    heads = made(generate, folder, "--policy", "tova:8,scope=head")[1]["kept"]
    check(len(heads) == 12 and {k["lane"] for k in heads} == {0, 1}, "one list a head at scope head")
    whole = made(generate, folder, "--policy", "tova:8,scope=model")[1]["kept"]
    check(len(whole) == 1, "one list in all at scope model")


def tokenizers(generate, folder):
    """A tokenizer.json that is none; a prompt that spells BOS is text."""
    home = folder / "llama2c"
    home.mkdir()
    pieces = [(p.encode(), 0.0) for p in " ab<>s/"] + [(b"<s", 1.0), (b"<s>", 2.0)]
    model = tiny_llama2c(home, 259 + len(pieces))
    (home / "tokenizer.json").write_text("{}")
    refuses(generate, "--model", model, "--prompt", "a", "--tokens", 1, says="only BPE is")
    refuses(generate, "--model", model, "--prompt", "a", "--tokens", 1, says="generate can't do without a tokenizer")
    refuses(generate, "--model", model, "--tokenizer", home / "tokenizer.json", "--prompt", "a", "--tokens", 1, says="only BPE is")
    llama2c_tokenizer(home / "tokenizer.bin", pieces)
    done = works(generate, "--model", model, "--prompt", "<s>a", "--tokens", 1, "--policy", "full", "--json", folder / "bos.json")
    report = json.loads((folder / "bos.json").read_text())
    check(done.stdout.startswith("<s>a"), f"the prompt comes back: {done.stdout!r}")
    check(report["kept"][0]["positions"][:6] == [0, 1, 2, 3, 4, 5] and report["kept"][0]["text"].startswith("<BOS><s>a") and "<BOS>" not in report["kept"][0]["text"][5:9], f"one BOS: {report['kept'][0]}")


def without_end(generate):
    """Runs until told to stop, and memory does not grow."""
    def resident(pid):
        return next(int(line.split()[1]) for line in open(f"/proc/{pid}/status") if line.startswith("VmRSS"))

    running = subprocess.Popen([generate, "--policy", "window+4:32@incache"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(2)
    early = resident(running.pid)
    time.sleep(4)
    late = resident(running.pid)
    running.send_signal(signal.SIGINT)
    stderr = running.communicate(timeout=30)[1]
    check(running.returncode == 0 and "remembered of " in stderr, f"Ctrl-C ends with what is remembered: {running.returncode} {stderr[:200]}")
    check(late <= early + 256, f"memory stays as it is: {early} kB, then {late} kB")


def ends(generate, folder):
    """Interrupted before its end: a part, status 3. Ended by its reader or a full disk: at once."""
    out = folder / "end.json"
    out.write_text("old")
    running = subprocess.Popen([generate, "--policy", "tova:16", "--tokens", "100000000", "--json", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    running.stdout.read(50)
    running.send_signal(signal.SIGINT)
    stderr = running.communicate(timeout=30)[1].decode()
    report = json.loads((folder / "end.part.json").read_text())
    check(running.returncode == 3 and out.read_text() == "old", f"--tokens N interrupted: status 3, the older output stays; {running.returncode}")
    check(report["interrupted"] and 0 < report["tokens_made"] < 10**8 and len(report["tokens"]) == report["tokens_made"], "the part says that it is one")
    check("interrupted after" in stderr.splitlines()[-1] and "end.part.json" in stderr.splitlines()[-1], f"and so does the last line: {stderr[-200:]}")
    out.unlink()
    for target, says in (("/dev/full", "No space left"), ("&-", "standard output")):
        done = subprocess.run(["bash", "-c", f'timeout 20 "$0" --policy tova:16 --prompt a >{target}', generate], capture_output=True, text=True)
        check(done.returncode == 2 and says in done.stderr and len(done.stderr.splitlines()) == 1, f"{target}: ends at once: {done.returncode} {done.stderr[:200]}")
    for more in ("", "--json -"):
        done = subprocess.run(["bash", "-c", f'timeout 20 "$0" --policy tova:16 {more} | {"true" if more else "head -c 20"}; echo ${{PIPESTATUS[0]}}', generate], capture_output=True, text=True)
        check(done.stdout.splitlines()[-1].endswith("2") and done.stderr == "", f"a reader that goes away ends it, quietly: {done.stdout[-30:]!r} {done.stderr[:200]}")
    done = subprocess.run(["bash", "-c", '"$0" --policy tova:16 --tokens 3 2>&-', generate], capture_output=True, text=True)
    check(done.returncode == 0 and done.stdout, "without standard error the text is there")


def printable(generate, folder):
    """What a stranger wrote is shown, not obeyed: in messages, and in the text as it is made."""
    model = folder / "esc"
    model.mkdir()
    (model / "config.json").write_text((DATA / "demo_model" / "config.json").read_text())
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"model.embed_tokens.weight": "\x1b]0;owned\x07\x1b[31m\u202e\u009b.safetensors"}}))
    done = run(generate, "--model", model, "--policy", "tova:4")
    check(done.returncode == 2 and "\\x1b]0;owned\\x07" in done.stderr and done.stderr.isprintable() is False and done.stderr[:-1].isprintable(), f"names in messages: {done.stderr!r}")
    done = subprocess.run([generate, "--policy", "tova:4", "--prompt", b"a\x1b[31m\r\n\t\xe4\xb8\xad\xff", "--tokens", "2", "--temperature", "0"], capture_output=True)
    check(done.returncode == 0 and done.stdout.startswith(b"a\\x1b[31m\\x0d\n\t\xe4\xb8\xad\\xff") and b"\x1b" not in done.stdout + done.stderr, f"the text: {done.stdout!r}")
    done = subprocess.run([generate, "--policy", "tova:4", "--prompt", b"\x1b\x9b\xe4\xb8\xad", "--tokens", "2", "--json", "-"], capture_output=True)
    check(done.returncode == 0 and done.stdout.isascii() and b"\x1b" not in done.stdout and json.loads(done.stdout)["tokens_made"] == 2, "JSON is ASCII")


def stories(generate, shared, folder):
    model = shared / "models" / "stories260K.bin"
    if model.is_file():
        report = made(generate, folder, "--model", model, "--policy", "tova:64", "--prompt", "Once upon a time")[1]
        check(" the " in report["text"], "it tells a story")


def main():
    generate, shared = arguments()
    with temporary() as name:
        folder = pathlib.Path(name)
        bad_usage(generate)
        text(generate, folder)
        tokenizers(generate, folder)
        if os.path.isdir("/proc/self"):
            without_end(generate)
        ends(generate, folder)
        printable(generate, folder)
        if shared:
            stories(generate, shared, folder)
    finish()


main()
