#!/usr/bin/env python3
"""End to end: compare_test.py PATH/TO/compare [SHARED]"""

import csv
import json
import math
import os
import pathlib
import platform
import random
import shutil
import signal
import struct
import subprocess
import time

from common import arguments, check, finish, leaves, llama2c_tokenizer, read_safetensors, refuses, run, temporary, tiny_llama2c, works, write_safetensors

FIGURES = ["nll", "nll_minus_full", "perplexity", "bits_per_byte", "kl_mean", "kl_median", "kl_p99", "top1_agreement", "states_attended_mean", "states_attended_max",
           "mean_life", "bytes_allocated", "bytes_live"]
KEYS = ["policy", "budget", *FIGURES, "recall", "tokens_per_second"]


def near(a, b, tolerance=1e-9):
    return abs(a - b) <= tolerance * max(1, abs(a), abs(b))


def said_twice(compare):
    """Models whose files say a fact twice, against what transformers computes from them; what was taken is said."""
    faults = pathlib.Path(__file__).resolve().parents[1] / "data" / "faults"
    usual = ["--policies", "full", "--window", "24", "--score", "all", "--json", "-"]
    for name, nll, note in [("tied_with_another_head", 2.440569, "lm_head.weight differs from the embedding"), ("tied_head_only", 5.439197, None)]:
        report = json.loads(works(compare, "--model", faults / name, "--text", faults / name / "ids.tokens", *usual).stdout)
        check(near(report["rows"][0]["nll"], nll, 1e-6), f"{name}: {report['rows'][0]['nll']}, not {nll}")
        check(note is None or any(note in said for said in report["notes"]), f"{name}: {report['notes']}")
    twice = faults / "rope_scaling_beside_rope_parameters"
    refuses(compare, "--model", twice, "--text", twice / "ids.tokens", says="rope_parameters and rope_scaling say different angles")


def bad_usage(compare, folder):
    (folder / "short.txt").write_text("x")
    (folder / "empty.txt").write_text("")
    (folder / "odd.tokens").write_bytes(b"\0" * 7)
    (folder / "far.tokens").write_bytes(struct.pack("<3i", 1, 2, 100000))
    (folder / "model.bin").write_bytes(b"not a model at all, but long enough to have a header")
    broken = folder / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{")
    for arguments, says in [
        (["--policies", "nonsense"], "no policy is called 'nonsense'"),
        (["--policies", "tova:0"], "is not a budget"),
        (["--policies", "window+9:4"], "sinks <= budget"),
        (["--policies", "tova,colour=red"], "has no 'colour'"),
        (["--policies", "tova,scope=head,scope=head"], "twice"),
        (["--policies", "tova@somewhere"], "there are @incache and @log"),
        (["--policies", "full:3"], "takes no budget"),
        (["--budgets", "0"], "--budgets must be a whole number"),
        (["--budgets", "16,,64"], "--budgets must be a whole number"),
        (["--budgets", "many"], "--budgets must be a whole number"),
        (["--window", "1"], "--window must be a whole number from 2"),
        (["--tokens", "1"], "--tokens must be a whole number from 2"),
        (["--tokens", "-5"], "--tokens must be a whole number from 2"),
        (["--window", "64", "--chunk", "33"], "--chunk must be at most half"),
        (["--chunk", "0"], "--chunk must be"),
        (["--score", "head"], "--score must be tail or all"),
        (["--threads", "0"], "--threads must be"),
        (["--format", "f8"], "--format must be f32, f16, bf16 or i8"),
        (["--tokens", "64", "--html", folder / "no" / "such.html", "--policies", "full"], "such.html"),
        (["--nonsense"], "--nonsense"),
        (["--text"], "--text"),
        (["--text", folder / "missing.txt"], "no such file"),
        (["--text", folder], "directory"),
        (["--text", folder / "short.txt"], "at least 2"),
        (["--text", folder / "empty.txt"], "at least 2"),
        (["--text", folder / "odd.tokens"], "multiple of 4"),
        (["--text", folder / "far.tokens"], "must be in [0, 257)"),
        (["--model", folder / "missing"], "no such file"),
        (["--model", folder / "model.bin"], "model.bin"),
        (["--model", broken], "config.json"),
        (["--tokens", "64", "--json", folder / "no" / "such.json", "--policies", "full"], "such.json"),
    ]:
        refuses(compare, *arguments, says=says)
    check(run(compare, "--help").returncode == 0, "--help ends with 0")
    check("compare 0." in run(compare, "--version").stdout, "--version says which")


def demo(compare, folder):
    """3,000 tokens of the story: the shape is that of the model's own evaluation, and the figures fit each other."""
    out = folder / "demo.json"
    done = works(compare, "--tokens", 3000, "--budgets", "16,64", "--policies", "tova,window,window+1,random,oracle,window+1@incache,window+1@log,h2o,recent=32,tova:2000", "--json", out, "--csv", folder / "demo.csv")
    report = json.loads(out.read_text())
    rows = {(r["policy"], r["budget"]): r for r in report["rows"]}
    check(report["window"] == 1024 and report["stride"] == 512 and report["score"] == "tail", "T, stride, score")
    windows = report["windows"]
    check([w["first_token"] for w in windows] == [0, 512, 1024, 1536, 2048], "windows start every T/2")
    check(report["scored_tokens"] == sum(w["scored"] for w in windows) == 3000 - 512, "scored targets tile the text")
    check(report["scored_bytes"] == 3000 - 512, "a byte a token")
    check(report["model"]["trained_context"] == 1024 and len(report["model"]["hash"]) == 16, "model")
    check(len(report["texts"]) == 1 and report["texts"][0]["tokens_used"] == 3000, "texts")
    check(report["command_line"][1:3] == ["--tokens", "3000"], "command line")
    full = rows["full", None]
    for key, row in rows.items():
        check(all(k in row for k in KEYS), f"{key}: has all keys")
        check(row["recall"] is None or 0 <= row["recall"] <= 1, f"{key}: recall is a share")
        check(row["tokens_per_second"] is None, f"{key}: nothing that was not measured")
        if row["skipped"]:
            continue
        check(all(row[f] is not None for f in FIGURES), f"{key}: all figures")
        check(near(row["perplexity"], math.exp(row["nll"])), f"{key}: perplexity")
        check(near(row["bits_per_byte"], row["nll"] / math.log(2)), f"{key}: bits per byte")
        check(near(row["nll_minus_full"], row["nll"] - full["nll"]), f"{key}: difference")
        weighted = sum(d * w["scored"] for d, w in zip(row["window_differences"], windows)) / report["scored_tokens"]
        check(near(weighted, row["nll_minus_full"]), f"{key}: differences of the windows")
        check(0 <= row["kl_median"] <= row["kl_p99"] and row["kl_mean"] >= 0 and 0 <= row["top1_agreement"] <= 1, f"{key}: ranges")
        k = row["budget"]
        if k is not None and k < 512:
            check(row["states_attended_max"] == k + 1 and near(row["states_attended_mean"], k + 1), f"{key}: k + 1 states attended")
            life = sum(min(t, k + 1) for w in windows for t in range(1, w["queries"] + 1)) / sum(w["queries"] for w in windows)
            check(near(row["mean_life"], life), f"{key}: mean life is mean(min(t, k + 1))")
            rounding = 1e-5 if "@" in key[0] else 0  # keys are turned elsewhere
            check(all(abs(b["difference"]) <= rounding for b in row["nll_by_position"] if b["position"] + 16 <= k), f"{key}: nothing is lost before k + 1")
            check(0 < row["kept_mass"] < 1, f"{key}: kept mass")
            low, high = row["interval"]
            check(low <= row["nll_minus_full"] <= high and row["letter"] is None, f"{key}: an interval, no letter from 5 windows")
            live = sum(min(t, k) for w in windows for t in range(1, w["queries"] + 1)) / sum(w["queries"] for w in windows)
            check(near(row["bytes_live"], live * report["model"]["bytes_per_token"]), f"{key}: live bytes")
            check(row["bytes_live"] < row["bytes_allocated"] < full["bytes_allocated"], f"{key}: bytes")
    check(full["interval"] is None and full["kept_mass"] == 1 and full["gap_closed"] is None, "Full has no interval")
    check(rows["random", 16]["gap_closed"] == 0 and rows["oracle", 16]["gap_closed"] > 0.5, "gap closed: from random to Full")
    check(all(p["alive"] == (p["age"] <= 16) for p in rows["window", 16]["survival"]), "Window's survival is a step at k")
    for key, row in rows.items():
        alive = [p["alive"] for p in row["survival"]]
        check(alive == sorted(alive, reverse=True), f"{key}: survival never rises: {alive}")
    check(abs(sum(k["share"] for k in full["life_by_kind"].values()) - 1) < 1e-9, "base rates of kinds")
    check(report["bootstrap"] == {"resamples": 10000, "seed": 1, "block_windows": 1, "over": "blocks", "this_text_only": True}, "bootstrap")
    check(all(p["interval"][0] <= p["difference"] <= p["interval"][1] and p["p"] <= p["p_holm"] <= 1 for p in report["pairs"]), "pairs")
    trace = report["trace"]
    check(trace["tokens"][0] == 256 and len(trace["tokens"]) == 1024 and all(r["budget"] == 64 for r in trace["rows"]), "trace of budget 64")
    deaths = next(r for r in trace["rows"] if r["policy"] == "window")["layers"]
    check(all(lane == [min(p + 65, 1024) for p in range(1024)] for layer in deaths for lane in layer), "Window drops position p after query p + k")
    modes = {p: rows[p, 16]["position_mode"] for p in ("window+1", "window+1@incache", "window+1@log")}
    check(list(modes.values()) == ["original", "incache", "log"], f"position modes: {modes}")
    check(len({rows[p, 16]["nll"] for p in modes}) == 3, "and they differ")
    check(full["kl_mean"] == 0 and full["top1_agreement"] == 1 and full["nll_minus_full"] == 0, "Full is Full")
    same = rows["tova", 2000]
    check(all(same[f] == full[f] for f in FIGURES if not f.startswith("bytes_alloc")), "k >= T is Full, bit for bit")
    check(same["mark"] == "k >= T/2" and rows["tova", 64]["mark"] is None, "marks")
    check(rows["random", 16]["seeds"] == [0, 1, 2, 3, 4], "random is the mean over five seeds")
    check("recent" in rows["h2o,recent=32", 16]["skipped"] and rows["h2o,recent=32", 16]["nll"] is None, "what a policy can't meet is skipped")
    check(rows["h2o,recent=32", 64]["skipped"] is None, "and run where it can")
    check(1.0 < full["nll"] < 1.6, f"Full's NLL {full['nll']}")
    check(rows["window", 64]["nll_minus_full"] > 0.4, "Window collapses")
    check(abs(rows["window+1", 64]["nll_minus_full"]) < 0.1, "Window+1 does not")
    check(abs(rows["tova", 64]["nll_minus_full"]) < 0.5 * rows["window", 64]["nll_minus_full"], "TOVA keeps the first state from 64 on, nearly always")
    check(rows["tova", 16]["nll_minus_full"] > rows["window+1", 16]["nll_minus_full"] > 0.2, "at 16 TOVA loses it")
    for k in (16, 64):
        check(rows["oracle", k]["nll"] < rows["random", k]["nll"], f"the oracle beats random at {k}")
    for text in ["NLL-Full", "tova", "skipped: ", "SIMD ", "k >= T/2"]:
        check(text in done.stdout, f"the table shows {text}")
    table = list(csv.DictReader((folder / "demo.csv").open()))
    check(len(table) == len(report["rows"]) and float(table[0]["nll"]) == full["nll"], "CSV holds the rows")
    check(any(r["policy"] == "h2o,recent=32" for r in table), "CSV quotes commas")
    check(report["rows"][0]["policy"] == "full" and [r["budget"] for r in report["rows"][1:]] == sorted(r["budget"] for r in report["rows"][1:]), "ordered by budget")


def small(compare, folder, *arguments, window=128, tokens=400, policies="tova,window+1", budgets="16"):
    out = folder / "small.json"
    works(compare, "--window", window, "--tokens", tokens, "--policies", policies, "--budgets", budgets, "--quiet", "--json", out, *arguments)
    return json.loads(out.read_text())


def options(compare, folder):
    plain = small(compare, folder)
    for threads in (1, 2, 5):
        other = small(compare, folder, "--threads", threads)
        check(other["rows"] == plain["rows"] and other["threads"] == threads, f"the same bits with {threads} threads")
    half = small(compare, folder, "--format", "f16")
    check(half["format"] == "f16" and 0 < abs(half["rows"][0]["nll"] - plain["rows"][0]["nll"]) < 0.01, "f16 states are near")
    check(half["rows"][1]["bytes_live"] * 2 == plain["rows"][1]["bytes_live"], "and half as large")
    small(compare, folder, "--format", "bf16")
    floats, bytes_ = (small(compare, folder, "--format", f, window=512, tokens=3000, policies="tova,window+1", budgets="128") for f in ("f32", "i8"))
    for a, b in zip(floats["rows"], bytes_["rows"]):
        check(a["nll"] != b["nll"] and abs(b["perplexity"] / a["perplexity"] - 1) < 0.01, f"{a['policy']}: perplexity with i8 states is within 1 %")
    check(bytes_["rows"][1]["bytes_live"] < 0.32 * floats["rows"][1]["bytes_live"], "and they are less than a third as large")
    chunked = small(compare, folder, "--chunk", 8)
    row = next(r for r in chunked["rows"] if r["policy"] == "tova")
    check(chunked["chunk"] == 8 and row["states_attended_max"] == 24 and 20 < row["states_attended_mean"] < 21, "chunks attend k + j + 1 states")
    every = small(compare, folder, "--score", "all")
    check(every["scored_tokens"] == 400 and every["score"] == "all" and every["stride"] == 128, "--score all scores each target once")
    (folder / "plain.json").write_text(json.dumps(plain))
    rough = small(compare, folder, "--format", "i8", "--against", folder / "plain.json")
    seen = lambda born, death: max(0, death - max(born, 64))
    for row, a, b in zip(rough["against"]["rows"], rough["trace"]["rows"], plain["trace"]["rows"], strict=True):
        lanes = [(p, x, y) for mine, others in zip(a["layers"], b["layers"], strict=True) for l, m in zip(mine, others, strict=True) for p, (x, y) in enumerate(zip(l, m, strict=True))]
        alike = sum(seen(p, min(x, y)) for p, x, y in lanes) / sum(seen(p, x) for p, x, _ in lanes)
        check(row["policy"] == a["policy"] and row["budget"] == 16 and abs(row["alike"] - alike) < 1e-12, f"states kept alike by two builds: {row} {alike}")
        check(row["alike"] == 1 if row["policy"] == "window+1" else 0.5 < row["alike"] < 1, "a window is the same in every format, TOVA nearly")
    check(len(rough["against"]["rows"]) == 2 and rough["against"]["format"] == "f32", "what it was set beside")
    refuses(compare, "--window", 64, "--tokens", 400, "--against", folder / "plain.json", says="is of another text or window")
    refuses(compare, "--window", 128, "--tokens", 400, "--chunk", 2, "--against", folder / "plain.json", says="another number of tokens together")
    refuses(compare, "--against", __file__, says="is not JSON")
    (folder / "deep.json").write_text("{\"model\":" + "[" * 10**6)
    refuses(compare, "--against", folder / "deep.json", says="nested deeper")
    (folder / "else.json").write_text("{}")
    refuses(compare, "--against", folder / "else.json", says="must be what compare --json wrote")
    far = small(compare, folder, window=1300, tokens=1300)
    check(far["extrapolation"] and all(r["kl_mean"] is None and r["top1_agreement"] is None and r["nll"] for r in far["rows"]), "above the trained context Full is no oracle")
    check("EXTRAPOLATION" in works(compare, "--window", 1100, "--tokens", 1100, "--policies", "window+1", "--budgets", 16).stdout.splitlines()[0], "and the output is headed so")
    for window, more in [(1024, set()), (1026, {"tova@incache", "tova@log", "window+4@log"})]:
        standard = json.loads(works(compare, "--window", window, "--tokens", window, "--budgets", 8, "--json", "-").stdout)
        names = {r["policy"] for r in standard["rows"]}
        check({n for n in names if "@" in n} == more | {"window+4@incache"}, f"position modes of the standard rows at {window}: {names}")
    quiet = works(compare, "--window", 64, "--tokens", 100, "--policies", "full", "--quiet")
    check(quiet.stdout == "" and quiet.stderr == "", "--quiet prints nothing")
    full = small(compare, folder, "--full", policies="short", budgets="16,64,128")
    rows = {(r["policy"], r["budget"]): r for r in full["rows"]}
    check(rows["short", 128]["nll"] == rows["full", None]["nll"], "short at k >= T is Full, bit for bit")
    check(rows["short", 16]["nll_minus_full"] > rows["short", 64]["nll_minus_full"] > 0, "and worse the shorter")
    check(rows["short", 16]["states_attended_max"] == 16 and rows["short", 16]["mean_life"] is None, "short attends k states")
    page = works(compare, "--window", 64, "--tokens", 100, "--policies", "tova:16", "--html", "-").stdout
    check(page.startswith("<!DOCTYPE html>") and page.rstrip().endswith("</html>") and "<code>tova</code>" in page and "too few to rank" in page, "the page is HTML, on stdout")
    again = json.loads(works(compare, "--window", 64, "--tokens", 100, "--policies", "tova:16,scope=head,window:8", "--json", "-").stdout)
    check([(r["policy"], r["budget"]) for r in again["rows"]] == [("full", None), ("window", 8), ("tova,scope=head", 16)], "a list of policies, JSON on stdout")

    text = "It was a dark night, and the two of them went home. " * 12
    (folder / "a.txt").write_text(text)
    (folder / "a.tokens").write_bytes(struct.pack(f"<{len(text)}i", *text.encode()))
    (folder / "b.txt").write_text(text[:40])
    both = [json.loads(works(compare, "--text", folder / f"a.{kind}", "--window", 128, "--policies", "tova:16", "--json", "-").stdout) for kind in ("txt", "tokens")]
    check(both[0]["rows"] == both[1]["rows"], "ids and text are the same")
    two = json.loads(works(compare, "--text", folder / "a.txt", "--text", folder / "b.txt", "--window", 128, "--policies", "tova:16", "--json", "-").stdout)
    check(len(two["texts"]) == 2 and two["windows"][-1] == {"text": 1, "first_token": 0, "queries": 40, "scored_from": 20, "scored": 20}, "a short text is one window, scored from its middle")


def begins_with_bos(compare, folder):
    """BOS is read once wherever ids have one of their own, and is never a target."""
    home = folder / "ids"
    home.mkdir()
    model, bos = tiny_llama2c(home, 300), 1  # without a tokenizer
    text = [3 + b for b in b"It was a dark night, and the two of them went home. " * 12]

    def ids(name, tokens):
        (home / name).write_bytes(struct.pack(f"<{len(tokens)}i", *tokens))
        return home / name

    def ran(*texts, score="tail", output="--json"):
        named = [a for t in texts for a in ("--text", t)]
        out = works(compare, "--model", model, *named, "--window", 64, "--score", score, "--policies", "tova:8", *([output, "-"] if output else [])).stdout
        return json.loads(out) if output == "--json" else out

    plain, own, twice = ids("plain.tokens", text), ids("own.tokens", [bos, *text]), ids("twice.tokens", [bos, bos, *text])
    reports = [ran(t) for t in (plain, own, twice)]
    for r, first in zip(reports, (0, 1, 2)):
        check(r["rows"] == reports[0]["rows"] and r["windows"] == reports[0]["windows"], f"{first} BOS: the figures of the text without")
        check(r["trace"]["tokens"][:3] == [bos, text[0], text[1]], f"{first} BOS: read once: {r['trace']['tokens'][:3]}")
        check(r["texts"][0]["bos_first"] == first and ("read once" in r["bos_rule"]) == (first > 0), f"{first} BOS: said: {r['bos_rule']}")
    both = ran(plain, own)
    check("own.tokens" in both["bos_rule"] and "plain.tokens" not in both["bos_rule"], f"which text had one: {both['bos_rule']}")
    check("read once" in ran(own, output="--html") and "read once" in ran(own, output=None), "the page and the table say it")

    joined = ids("joined.tokens", [bos, *text[:40], bos, *text[40:300], bos, bos, *text[300:], bos])
    for score in ("tail", "all"):
        r = ran(joined, score=score)
        check(r["texts"][0]["bos_inside"] == 4 and "no targets" in r["bos_rule"], f"BOS inside: {r['bos_rule']}")
        check(r["scored_tokens"] == len(text) - (32 if score == "tail" else 0), f"{score}: all of the text and no BOS: {r['scored_tokens']}")
        check(r["trace"]["tokens"][0] == bos and bos not in r["trace"]["tokens"][1:41] and r["trace"]["tokens"][41] == bos, "the first window reads one, and that inside")
    refuses(compare, "--model", model, "--text", ids("only.tokens", [bos] * 9), "--window", 8, says="only.tokens: holds nothing but BOS")

    # With recall, whose filler is the text, and bytes.
    (folder / "own.tokens").write_bytes(struct.pack(f"<{len(text) + 2}i", 256, *(t - 3 for t in text), 256))
    r = json.loads(works(compare, "--text", folder / "own.tokens", "--window", 128, "--policies", "tova:16", "--json", "-").stdout)
    check(r["trace"]["tokens"][:2] == [256, ord("I")] and r["scored_tokens"] == r["scored_bytes"] == len(text) - 64 and r["recall"]["cells"], "bytes and BOS 256")


def overflow(compare, folder):
    """Keys beyond f16: the format is named, not the model."""
    demo = pathlib.Path(__file__).resolve().parents[2] / "examples" / "data" / "demo_model"
    model = folder / "large"
    model.mkdir()
    (model / "config.json").write_bytes((demo / "config.json").read_bytes())

    def with_layer(change):
        header, data = read_safetensors(demo / "model.safetensors")
        tensors = {}
        for name, t in header.items():
            if name == "__metadata__":
                continue
            begin, end = t["data_offsets"]
            tensors[name] = (t["dtype"], t["shape"], data[begin:end])
            if name in change:
                values = struct.unpack(f"<{(end - begin) // 2}e", data[begin:end])
                tensors[name] = ("F32", t["shape"], struct.pack(f"<{len(values)}f", *(x * change[name] for x in values)))
        write_safetensors(model / "model.safetensors", tensors)

    asked = ["--model", model, "--window", 64, "--tokens", 100, "--policies", "tova:8"]
    attention = "model.layers.2.self_attn."
    for change in ({attention + "k_proj.weight": 1e6, attention + "q_proj.weight": 1e-6}, {attention + "v_proj.weight": 1e6, attention + "o_proj.weight": 1e-6}):
        with_layer(change)
        refuses(compare, *asked, "--format", "f16", says="full: states in f16 overflow: layer 2 at position 0")
        refuses(compare, *asked, "--format", "f16", says="take format f32 or bf16 (--format)")
        nll = [json.loads(works(compare, *asked, "--format", f, "--json", "-").stdout)["rows"][0]["nll"] for f in ("f32", "bf16", "i8")]
        check(near(nll[0], nll[1], 0.01) and near(nll[0], nll[2], 0.05), f"other formats hold them: {nll}")
    every = json.loads(works(compare, *asked, "--full", "--json", "-").stdout)
    check(every["agreement"][0]["alike"]["f16"] is None and every["agreement"][0]["alike"]["bf16"] > 0.5 and any("f16 overflow" in n for n in every["notes"]), "agreement with it is null, and said to be")
    with_layer({attention + "k_proj.weight": math.nan})
    for format in ("f32", "f16"):
        refuses(compare, *asked, "--format", format, says="full: logits are not finite at token 0 of window 0")


def unknown(compare, folder):
    """A model that does not know the text is said not to."""
    (folder / "noise.txt").write_bytes(random.Random(3).randbytes(1500))
    noise = json.loads(works(compare, "--text", folder / "noise.txt", "--window", 256, "--policies", "tova:16", "--json", "-").stdout)
    check(any("worse" in n and "does not know" in n for n in noise["notes"]), f"noise: {noise['notes']}")
    known = json.loads(works(compare, "--tokens", 1500, "--window", 256, "--policies", "tova:16", "--json", "-").stdout)
    check(not any("does not know" in n or "recall says nothing" in n for n in known["notes"]), f"its own kind of text: {known['notes']}")


def tokenizers(compare, folder):
    """Bytes of a text that spells a byte; a tokenizer.json that is none."""
    home = folder / "llama2c"
    home.mkdir()
    pieces = [(p.encode(), 0.0) for p in " abcdefgh<>0x4\n"] + [(b"<0", 1.0), (b"x4", 1.0), (b"<0x4", 2.0), (b"0>", 1.0)]
    text = home / "text.txt"
    text.write_text("ab<0x40>cd")
    model = tiny_llama2c(home, 259 + len(pieces))
    (home / "tokenizer.json").write_text('{"version": "1.0"}')
    for more in ([], ["--tokenizer", home / "tokenizer.json"]):
        refuses(compare, "--model", model, "--text", text, *more, says="tokenizer.json: model null is not supported, only BPE is")
    llama2c_tokenizer(home / "tokenizer.bin", pieces)
    report = json.loads(works(compare, "--model", model, "--text", text, "--window", 32, "--score", "all", "--policies", "tova:4", "--json", "-").stdout)
    check(report["scored_bytes"] == 10, f"a text of 10 bytes: {report['scored_bytes']}")
    check(max(report["trace"]["tokens"]) > 258 and 3 + 0x40 not in report["trace"]["tokens"], "no byte where there is none")


def little(compare, folder):
    """Few windows, short texts, budgets that hold everything: nothing is claimed that was not measured."""
    out, table, page = folder / "little.json", folder / "little.csv", folder / "little.html"
    for windows, told in [(1, False), (2, False), (3, False), (4, True)]:
        works(compare, "--window", 64, "--tokens", 32 * (windows + 1), "--policies", "tova,random", "--budgets", 8, "--quiet", "--json", out, "--csv", table, "--html", page)
        report = json.loads(out.read_text())
        rows = report["rows"][1:]
        check(len(report["windows"]) == windows and all((r["interval"] is not None) == told for r in rows), f"{windows} windows: intervals {[r['interval'] for r in rows]}")
        check(told or all(r["gap_closed"] is None for r in rows) and all(p["interval"] is p["p"] is p["p_holm"] is None for p in report["pairs"]), f"{windows} windows: no gap, no p")
        check(all((r["interval_low"] != "") == (r["interval_high"] != "") == told for r in list(csv.DictReader(table.open()))[1:]), f"{windows} windows: CSV")
        check(any("no 95 % intervals" in note for note in report["notes"]) != told, f"{windows} windows: a note: {report['notes']}")
        check(told or "class=\"band\"" not in page.read_text().split("</figure>")[0].replace("ref\"><path class=\"band", ""), f"{windows} windows: no bands")
    text = folder / "sixty.txt"
    text.write_text("It was a dark night, and the two of them went home at last. ")
    done = works(compare, "--text", text, "--policies", "tova,h2o,window", "--budgets", "16,64", "--json", out, "--html", page)
    report = json.loads(out.read_text())
    check({r["mark"] for r in report["rows"] if r["budget"] == 64} == {"k >= T/2"} and {r["mark"] for r in report["rows"] if r["budget"] == 16} == {"k > T/4"}, "marks go by the longest window")
    check(all(r["nll_minus_full"] == 0 and r["interval"] is None for r in report["rows"] if r["budget"] == 64), "64 of 60 states forget nothing")
    check(all(p["budget"] == 16 for p in report["pairs"]), "and are not compared")
    check("k = 64: nothing was forgotten, the longest window has 60 tokens" in done.stdout and "a text this short" in done.stdout, f"and it is said: {done.stdout[-600:]}")
    check("With k = 16 states" in page.read_text() and "With k = 64" not in page.read_text(), "the first sentence is of what was forgotten")
    text.write_text("word")
    refuses(compare, "--text", text, says="nothing would be forgotten: the longest window has 4 tokens and no budget (16, 64, 256) is below 3; give smaller --budgets, or a longer text")
    refuses(compare, "--text", text, "--policies", "tova:3,oracle:9", says="no budget (3, 9) is below 3")
    works(compare, "--text", text, "--policies", "tova:2,oracle:9", "--quiet")


def long_path(compare, folder):
    """Lines of the report that hold a path end as others do."""
    demo = pathlib.Path(works(compare, "--tokens", 64, "--policies", "full").stdout.split("\nmodel    ")[1].split()[0])
    deep = folder.joinpath(*["a_folder_with_a_long_name"] * 11)
    deep.mkdir(parents=True)
    (deep / "model").symlink_to(demo)
    text = deep / "text.txt"
    text.write_text("It was a dark night, and the two of them went home. " * 12)
    lines = works(compare, "--model", deep / "model", "--text", text, "--window", 256, "--policies", "window:16").stdout.splitlines()
    model, read = (next(i for i, line in enumerate(lines) if line.startswith(start)) for start in ("model", "text"))
    check(lines[model] == f"model    {deep / 'model'}" and lines[model + 1].endswith("   trained context 1024"), f"the model's lines: {lines[model : model + 2]}")
    check(lines[read] == f"text     {text}" and lines[read + 1].endswith(" tokens"), f"the text's lines: {lines[read : read + 2]}")


def commas(compare, folder):
    """A program that takes up a locale with decimal commas writes the same."""
    locale, library, source = folder / "locale", folder / "setlocale.so", folder / "setlocale.c"
    locale.mkdir()
    source.write_text('#include <locale.h>\n__attribute__((constructor)) static void go(void) { setlocale(LC_ALL, ""); }\n')
    try:
        made = [subprocess.run(c, capture_output=True).returncode == 0 for c in (["localedef", "-i", "de_DE", "-f", "UTF-8", locale / "de_DE.UTF-8"], ["cc", "-shared", "-fPIC", source, "-o", library])]
    except FileNotFoundError:
        made = [False]
    if not all(made):
        print("skipped: no locale with decimal commas, or no C compiler")
        return
    command = [compare, "--window", "128", "--tokens", "600", "--policies", "tova,random,oracle", "--budgets", "16", "--threads", "1"]
    results = []
    for extra in ({}, {"LOCPATH": str(locale), "LC_ALL": "de_DE.UTF-8", "LD_PRELOAD": str(library)}):
        outputs = [folder / f"locale.{kind}" for kind in ("json", "csv", "html")]
        arguments = [word for path, kind in zip(outputs, ("--json", "--csv", "--html")) for word in (kind, str(path))]
        done = subprocess.run([*command, *arguments], env={**os.environ, **extra}, capture_output=True, text=True)
        check(done.returncode == 0, f"in a locale: {done.stderr[:300]}")
        results.append([done.stdout, *(path.read_text() for path in outputs)])
    for kind, plain, german in zip(("table", "JSON", "CSV", "HTML"), *results):
        check(plain == german, f"{kind} is the same in every locale")


def target(compare, folder):
    """The program takes the best SIMD target that this CPU has, whatever it was compiled for."""
    cpu = set(pathlib.Path("/proc/cpuinfo").read_text().split())
    done = works(compare, "--window", 64, "--tokens", 100, "--policies", "tova:8", "--json", "-")
    ran = json.loads(done.stdout)["simd_target"]
    if ran in ("SCALAR", "EMU128") or platform.machine() not in ("x86_64", "AMD64"):
        return  # a build for one target
    best = "AVX3_DL" if {"avx512vl", "avx512_vnni", "avx512_bitalg", "vaes", "gfni"} <= cpu else "AVX2" if {"avx2", "fma", "bmi2"} <= cpu else "SSSE3"
    check(ran == best, f"{ran} ran, {best} is the best")
    check("march" not in done.stderr, "no flag to compile with is named")


DATA = pathlib.Path(__file__).resolve().parents[2] / "examples" / "data"


def quick(compare, folder, *arguments):
    """A comparison of some tenths of a second."""
    text = folder / "quick.txt"
    if not text.exists():
        text.write_bytes((DATA / "story.txt").read_bytes()[:700])
    return [compare, "--text", text, "--window", "64", "--budgets", "8", "--policies", "tova,short", "--threads", "1", "--quiet", *map(str, arguments)]


def journals(folder):
    return sorted(folder.glob("*.partial"))


def records(path):
    return path.read_text(errors="replace").count("\n") - 1


def when_kept(command, folder, least, signals, **options):
    """Sends the signals when so many parts are kept; the finished process."""
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    while running.poll() is None and not any(records(p) >= least for p in journals(folder)):
        time.sleep(0.002)
    for how in signals:
        if running.poll() is None:
            running.send_signal(how)
            time.sleep(0.001)
    running.out, running.err = running.communicate(timeout=120)
    return running


def numbers(path):
    report = json.loads(path.read_text())
    report.pop("command_line")
    report["notes"] = [n for n in report["notes"] if "went on from" not in n]
    return report


def interrupt(compare, folder):
    """What is done goes to a part beside the output, which stays as it was; the same command goes on, and takes the parts away."""
    here = folder / "interrupt"
    here.mkdir()
    out = here / "x.json"
    command = quick(compare, folder, "--json", out, "--html", here / "x", "--csv", here / "x.csv")
    whole = run(*command)
    check(whole.returncode == 0 and whole.stdout == "" and whole.stderr == "", f"a quick run: {whole.stderr}")
    before, names = numbers(out), ["x", "x.csv", "x.json"]
    leaves(here, *names)
    for how in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        old = {n: (here / n).read_bytes() for n in names}
        part = when_kept(command, here, 12, [how])
        check(part.returncode == 3, f"interrupted: status 3; got {part.returncode} {part.err[:300]}")
        check(len(part.err.splitlines()) == 1 and "x.part.json" in part.err and ".partial" in part.err, f"one line says where the part is: {part.err}")
        check(all((here / n).read_bytes() == old[n] for n in names), "the older results are as they were")
        left = [p.name for p in journals(here)]
        leaves(here, *names, "x.part.json", "x.part.csv", "x.part", *left)
        report = json.loads((here / "x.part.json").read_text())
        check(report["interrupted"] and 0 < len(report["windows"]) < len(before["windows"]), "a part says that it is one")
        check(len(report["rows"][1]["window_differences"]) == len(report["windows"]), "and has whole windows")
        check("<strong>Interrupted:</strong>" in (here / "x.part").read_text().split("</p>")[0], "the page says so first")
        again = run(*command)
        check(again.returncode == 0 and numbers(out) == before, "the same command goes on to the same numbers")
        leaves(here, *names)
    early = when_kept(command, here, 0, [signal.SIGINT])
    check(early.returncode == 3 and len(early.err.splitlines()) == 1 and "before the first window" in early.err, f"before anything is done: {early.returncode} {early.err}")
    twice = when_kept(command, here, 3, [signal.SIGINT, signal.SIGINT])
    check(twice.returncode in (-signal.SIGINT, 3), f"a second one ends at once: {twice.returncode}")
    nohup = when_kept(command, here, 3, [signal.SIGHUP], preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    check(nohup.returncode == 0 and numbers(out) == before, "nohup is respected")
    (here / "x.part.json").unlink(missing_ok=True)
    (here / "x.part").unlink(missing_ok=True)
    (here / "x.part.csv").unlink(missing_ok=True)
    table = [w for w in command if w != "--quiet"]
    shown = when_kept(table, here, 12, [signal.SIGINT])
    check(shown.returncode == 3 and "The run was interrupted" in shown.out.split("\n\n")[-2] and shown.out.splitlines()[-1].startswith("wrote "), f"the finding says so: {shown.out[-600:]}")
    run(*command)
    leaves(here, *names)
    other = here / "other.json"
    piped = when_kept(quick(compare, folder, "--json", "-", "--csv", other), here, 12, [signal.SIGINT])
    check(piped.returncode == 3 and json.loads(piped.out)["interrupted"], "on standard output the part is what there is, with status 3")


def outputs(compare, folder):
    """Outputs are looked at before any work; what can't be is refused, and nothing is touched."""
    here = folder / "outputs"
    here.mkdir()
    text, model = here / "text.txt", here / "model"
    text.write_bytes((DATA / "story.txt").read_bytes()[:300])
    shutil.copytree(DATA / "demo_model", model)
    (here / "link").symlink_to("text.txt")
    (here / "hard").hardlink_to(text)
    (here / "ring").symlink_to("ring")
    (here / "x.part.json").write_text("old")
    was = sorted(p.name for p in here.iterdir())
    base = ["--model", model, "--text", text, "--window", 64, "--budgets", 8, "--policies", "tova", "--quiet"]
    for arguments, says in [
        (["--json", "-", "--csv", "-"], "--csv and --json cannot both go to standard output"),
        (["--html", "-", "--csv", "/dev/stdout"], "cannot both go to standard output"),
        (["--json", here / "a", "--html", here / "a"], "a file of --json too"),
        (["--json", here / "a", "--html", f"{here}/./model/../a"], "a file of --json too"),
        (["--json", here / "a.json", "--html", here / "a.part.json"], "a file of --json too"),
        (["--json", text], "a file of --text too"),
        (["--json", here / "link"], "a file of --text too"),
        (["--csv", here / "hard"], "a file of --text too"),
        (["--json", model / "config.json"], "a file of --model too"),
        (["--json", here / "x.json", "--against", here / "x.part.json"], "a file of --against too"),
        (["--json", here], "is a directory"),
        (["--json", f"{here}/"], "names no file"),
        (["--json", here / "ring"], "ring"),
        (["--json", here / "no" / "x"], "No such file"),
        (["--json", text / "x"], "Not a directory"),
    ]:
        refuses(compare, *base, *arguments, says=says)
        check(sorted(p.name for p in here.iterdir()) == was, f"{arguments}: nothing is made")
    check(text.read_bytes() == (DATA / "story.txt").read_bytes()[:300], "and the text is as it was")
    (here / "x.part.json").unlink()
    for name in ("link", "hard", "ring"):
        (here / name).unlink()

    command = [compare, *map(str, base)]
    for more in (["--json", "-"], ["--html", "-"], ["--csv", "/dev/stdout"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run([*command, *more], stdout=full, stderr=subprocess.PIPE, text=True)
        check(done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "standard output" in done.stderr and "No space left" in done.stderr, f"{more} on a full disk: {done.returncode} {done.stderr}")
    shell = lambda line: subprocess.run(["bash", "-c", line, "-", *command], capture_output=True, text=True, cwd=here)
    for line, says in [('"${@:1:11}" >/dev/full', "No space left"), ('"$@" --json - >&-', "standard output"), ('"$1" --help >/dev/full', "No space left"), ('"$1" --version >&-', "standard output")]:
        done = shell(line)
        check(done.returncode == 2 and says in done.stderr and len(done.stderr.splitlines()) == 1, f"{line}: {done.returncode} {done.stderr}")
    done = shell('"$@" --json closed.json <&- >&- 2>&-')
    check(done.returncode == 0 and json.loads((here / "closed.json").read_text())["rows"], "closed standard streams do not break outputs")
    done = shell('"$@" --json - | head -c 10; echo ${PIPESTATUS[0]}')
    check(done.stderr == "" and done.stdout[:1] == "{" and done.stdout.splitlines()[-1][-1] in "02", f"a reader that goes away is no fault to tell: {done.stdout[-20:]} {done.stderr}")
    done = shell('"$@" --json /dev/null && "$@" --csv /dev/stdout && "$@" --json r.json --csv /dev/fd/3 3>three.csv && head -1 three.csv')
    check(done.returncode == 0 and done.stdout.count("policy,budget") == 2, f"devices are written as they are: {done.stderr}")
    done = shell('mkfifo pipe; cat pipe > got.json & "$@" --json pipe; wait; test -p pipe')
    check(done.returncode == 0 and json.loads((here / "got.json").read_text())["rows"], f"and so are pipes: {done.stderr}")
    (here / "r.json").chmod(0o600)
    (here / "dangling").symlink_to("target.json")
    done = shell('"$@" --json r.json --html dangling; : > r.json.part-$$-0; exec "$@" --json r.json')
    check(done.returncode == 0 and (here / "r.json").stat().st_mode & 0o777 == 0o600, f"rights stay: {done.stderr}")
    check((here / "dangling").is_symlink() and (here / "target.json").is_file(), "a link stays a link")
    check(not list(here.glob(".multistate*")) and not journals(here), "nothing else is left")


def hash_bytes(data):
    """The library's hash, so that forged records look right."""
    m = (1 << 64) - 1

    def mix(z):
        z = (z + 0x9E3779B97F4A7C15) & m
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & m
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & m
        return z ^ (z >> 31)

    lane, at = [1, 2, 3, 4], 0
    while len(data) - at >= 32:
        for i in range(4):
            lane[i] = mix(lane[i] ^ struct.unpack_from("<Q", data, at + 8 * i)[0])
        at += 32
    for i in range(0, (len(data) - at + 7) // 8):
        lane[i] = mix(lane[i] ^ int.from_bytes(data[at + 8 * i : at + 8 * i + 8], "little"))
    h = mix(len(data))
    for x in lane:
        h = mix(h ^ x)
    return h


def forged(compare, folder):
    """A journal whose records are right by their hash and say other things is refused by name, and stays as it is."""
    here = folder / "forged"
    here.mkdir()
    out = here / "x.json"
    command = quick(compare, folder, "--json", out)
    killed = when_kept(command, here, 8, [signal.SIGKILL])
    check(killed.returncode == -signal.SIGKILL and len(journals(here)) == 1, "killed in the middle")
    journal = journals(here)[0]
    good = journal.read_bytes()
    head, *lines = good.decode().split("\n")[:-1]
    line = lambda body: f"{hash_bytes(body.encode()):016x} {body}"
    check(all(line(l[17:]) == l for l in lines), "the hash is known")

    def mutate(change):
        out = []
        for l in lines:
            name, value = json.loads(l[17:])
            out.append(line(json.dumps([name, change(name, value)], separators=(",", ":"))))
        return "\n".join([head, *out, ""]).encode()

    def in_windows(change):
        def apply(name, value):
            if name.count("/") == 1:
                for row in value:
                    for w in row:
                        change(w)
            return value
        return mutate(apply)

    lists = lambda w, f: [w["lived"].update({k: f(v)}) for k, v in w["lived"].items() if isinstance(v, list)]
    forgeries = {
        "better": in_windows(lambda w: w.update(nll=w["nll"] * 0.5, difference=w["difference"] - 1)),
        "short places": in_windows(lambda w: w.update(differences=w["differences"][:1], counts=w["counts"][:1])),
        "long places": in_windows(lambda w: w.update(differences=w["differences"] * 50, counts=w["counts"] * 50)),
        "short lives": in_windows(lambda w: lists(w, lambda v: v[:1])),
        "long lives": in_windows(lambda w: lists(w, lambda v: v * 50)),
        "deaths": in_windows(lambda w: w.update(deaths=[10**9] * 3)),
        "no divergences": in_windows(lambda w: w.update(kls=[])),
        "counts": in_windows(lambda w: w.update(scored=0, attending=0, steps=0)),
        "strings": in_windows(lambda w: w.update(nll="x")),
        "no rows": mutate(lambda name, value: [] if name.count("/") == 1 else value),
        "null": mutate(lambda name, value: None),
        "fresh": mutate(lambda name, value: dict(value, next=10**6) if name.count("/") == 2 else value),
        "deep": good + (line('["window/9",' + "[" * 10**6 + "]" * 10**6 + "]") + "\n").encode(),
        "doubled": good + good,
        "foreign": b"precious",
        "damaged": good[: len(good) // 3] + b"#" + good[len(good) // 3 + 1 :],
    }
    for what, content in forgeries.items():
        journal.write_bytes(content)
        done = run(*command)
        check(done.returncode == 2 and len(done.stderr.splitlines()) == 1 and journal.name in done.stderr, f"{what}: {done.returncode} {done.stderr[:300]}")
        check(journal.read_bytes() == content and not out.exists(), f"{what}: nothing is touched")
    journal.unlink()
    (here / "precious").write_text("precious")
    journal.symlink_to("precious")
    done = run(*command)
    check(done.returncode == 2 and "is a link" in done.stderr and (here / "precious").read_text() == "precious", f"a link in its place: {done.stderr}")
    journal.unlink()
    journal.write_bytes(good)
    first = subprocess.Popen(command)
    while first.poll() is None and journal.exists() and journal.stat().st_size == len(good):
        time.sleep(0.002)
    second = run(*command)
    check(first.wait(timeout=60) == 0, "the first of two runs ends well")
    check(second.returncode == 2 and "another run" in second.stderr or second.returncode == 0, f"the second is refused: {second.stderr}")
    leaves(here, "precious", "x.json")


def killed(compare, folder):
    """Killed again and again at any moment: the same numbers, and nothing is left lying about; where BOS is no target, too."""
    here = folder / "killed"
    here.mkdir()
    out = here / "x.json"
    words = (DATA / "story.txt").read_bytes()[700:1100]
    ids = [256, *words[:70], 256, *words[70:150], 256, 256, *words[150:]]
    joined = folder / "several.tokens"
    joined.write_bytes(struct.pack(f"<{len(ids)}i", *ids))
    command = quick(compare, folder, "--text", joined, "--json", out, "--html", here / "x.html")
    works(*command)
    whole = numbers(out)
    for least in (1, 4, 9, 14, 20, 35, 50, 65):
        when_kept(command, here, least, [signal.SIGKILL])
    works(*command)
    check(numbers(out) == whole, "the same numbers as in one go")
    leaves(here, "x.json", "x.html")


def going_on(compare, folder):
    """Stopped politely, then killed, then let run: the same numbers as in one go, and nothing is left lying about."""
    command = [compare, "--window", "128", "--tokens", "3000", "--policies", "tova:16,random:16", "--quiet", "--time", "--full", "--json"]
    whole, parts = folder / "whole.json", folder / "parts.json"
    pieces = lambda: list(folder.glob("parts.json.*.partial"))
    works(*command, whole)
    check(not list(folder.glob("whole.json.*")), "a whole run leaves its output alone")
    finished = False
    for how, seconds in ((signal.SIGINT, 1.0), (signal.SIGKILL, 2.0), (signal.SIGINT, 1.5), (signal.SIGKILL, 2.5)):
        running = subprocess.Popen([*command, str(parts)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(seconds)
        finished = finished or running.poll() is not None
        running.send_signal(how)
        running.communicate(timeout=120)
        check(running.returncode == (3 if how == signal.SIGINT else -how), f"status of a part: {running.returncode}")
    check(not finished and len(pieces()) == 1, f"what was done is kept: {pieces()}")
    works(*command, parts)
    check(not pieces() and not list(folder.glob("parts.part*")), "and taken away when all is done")
    a, b = (json.loads(path.read_text()) for path in (whole, parts))
    check(any("went on from" in note for note in b["notes"]), "the output says that it went on")
    for report in (a, b):
        timed = {(r["policy"], r["budget"]): r for r in report["time"]["rows"]}
        for row in report["rows"]:
            rate = row.pop("tokens_per_second")
            if (row["policy"], row["budget"]) in timed:
                t = timed[row["policy"], row["budget"]]
                speed = t["tokens_per_second"]
                check(rate == speed["median"] and 0 < speed["low"] <= rate <= speed["high"], "tokens a second")
                parts_of_it = t["attention_us"] + t["policy_us"] + t["rest_us"]
                check(min(t["attention_us"], t["policy_us"], t["rest_us"]) > 0 and 0.5 < parts_of_it * rate / 1e6 < 2, f"the parts of a token's time: {t}")
                check([p["position"] for p in t["by_position"]] == list(range(0, 128, 8)), "time by position")
        check(len(timed) == 3 and report["time"]["rounds"] == 7 and report["time"]["threads"] == 1, f"what was timed: {list(timed)}")
        for key in ("command_line", "time", "notes"):
            report.pop(key)
    check(a == b, "the same numbers as in one go")
    modes = {(m["policy"], m["budget"], m["mode"]): m for m in a["prompt_modes"]}
    check(len(modes) == 12 and modes["full", None, "sequential"]["nll_minus_full"] == 0, "three rows read in four ways")
    check(abs(modes["full", None, "one_shot"]["nll_minus_full"]) < 1e-5 and abs(modes["full", None, "chunked"]["nll_minus_full"]) < 1e-5, "Full is the same read in any way")
    check([modes["tova", 16, m]["states_attended_max"] for m in ("sequential", "chunked", "one_shot", "read_twice")] == [17, 32, 42, 17], "states attended")
    check(modes["full", None, "sequential"]["interval"] is None, "no interval where nothing differs")
    check(all(m["interval"][0] <= m["nll_minus_full"] <= m["interval"][1] for m in modes.values() if m["interval"]) and modes["tova", 16, "one_shot"]["interval"], "intervals of the modes")
    written = {(r["policy"], r["budget"]): r for r in a["free_run"]["rows"]}
    check(a["free_run"]["prompt_tokens"] == 64 and a["free_run"]["tokens"] == 64 and len(written) == 3, "free running: half a window each")
    check(written["full", None]["first_divergence"] is None and 0 <= written["tova", 16]["first_divergence"] < 64, "Full does not differ from itself, others do")
    check(written["full", None]["nll_under_full"] < written["tova", 16]["nll_under_full"], "what Full wrote is likelier to Full")
    check(all(0 <= r["repeated_4grams"] <= 1 and r["sample"] for r in written.values()), "samples")
    alike = {(r["policy"], r["budget"]): r["alike"] for r in a["agreement"]}
    check(set(alike) == {("tova", 16), ("random", 16)} and set(alike["random", 16].values()) == {1}, "random keeps the same in all formats")
    check(set(alike["tova", 16]) == {"f16", "bf16", "i8"} and all(0.3 < x <= 1 for x in alike["tova", 16].values()), f"TOVA nearly so: {alike['tova', 16]}")
    kinds = {(c["facts"], c["variant"], c["mode"]) for c in a["recall"]["cells"]}
    check(kinds == {(1, v, "sequential") for v in ("last", "first_too", "removed")} | {(1, "last", m) for m in ("chunked", "one_shot")}, f"recall in full, as far as it fits into 128 tokens: {kinds}")


def in_parts(compare, folder):
    """Four parts, one of them killed on the way, are one run when they are joined; what does not belong together is refused by name."""
    here = folder / "parts"
    here.mkdir()
    asked = ["--tokens", "640", "--window", "128", "--budgets", "8,16", "--policies", "tova,random,short,window@incache"]
    whole, joined, again = here / "whole.json", here / "joined.json", here / "again.json"
    works(compare, *asked, "--threads", 2, "--quiet", "--json", whole)
    files = [here / f"{i}.json" for i in (1, 2, 3, 4)]
    for i, path in enumerate(files, 1):
        command = [compare, *asked, "--shard", f"{i}/4", "--threads", "1", "--quiet", "--json", str(path)]
        if i == 2:
            check(when_kept(command, here, 1, [signal.SIGKILL]).returncode in (0, -signal.SIGKILL), "killed on the way")
        works(*command)
    contents = [json.loads(path.read_text()) for path in files]
    check([c["windows"]["count"] for c in contents] == [2, 2, 2, 3] and sum(c["windows"]["count"] for c in contents) == contents[0]["windows"]["of"], f"windows of the parts: {[c['windows'] for c in contents]}")
    check(all(c["program"] == "multistate compare, a part" and c["simd_target"] and c["seed"] == 1 and c["version"] for c in contents), "what a part says of itself")
    works(compare, "--merge", *files[::-1], "--threads", 2, "--quiet", "--json", joined)
    check(numbers(joined) == numbers(whole), "joined: the JSON of one run")
    works(compare, *asked, "--merge", *files, "--threads", 2, "--quiet", "--json", again)
    check(numbers(again) == numbers(whole), "and with the arguments said again")
    many = [here / f"many{i}.json" for i in (1, 2)]
    for i, path in enumerate(many, 1):
        works(compare, "--tokens", 90, "--window", 96, "--policies", "tova:8", "--shard", f"{i}/2", "--quiet", "--json", path)
    check([json.loads(p.read_text())["windows"]["count"] for p in many] == [0, 1], "a part may be empty")
    works(compare, "--merge", *many, "--quiet")

    def changed(name, path, change):
        content = json.loads(path.read_text())
        change(content)
        out = here / name
        out.write_text(json.dumps(content))
        return out

    other = changed("other", files[1], lambda c: c["command"].update(budgets="8,17"))
    target = changed("target", files[1], lambda c: c.update(simd_target="VAX"))
    version = changed("version", files[1], lambda c: c.update(version="0.0.1"))
    seed = changed("seed", files[1], lambda c: c.update(seed=2))
    text = changed("text", files[1], lambda c: c.update(settings="0" * 16))
    lacks = changed("lacks", files[1], lambda c: c["records"].pop("window/2"))
    more = changed("more", files[1], lambda c: c["records"].update({"window/0": []}))
    wrong = changed("wrong", files[1], lambda c: c["records"].update({"window/2": []}))
    of = changed("of", files[1], lambda c: c.update(of=5))
    rest = [files[0], *files[2:]]
    for given, says in [
        (rest, "--merge: part 2 of 4 is missing"),
        ([*files, files[2]], "part 3 is there twice"),
        ([*rest, other], "other: is of another command: --budgets 8,17 and not 8,16"),
        ([*rest, target], "target: is of another SIMD target: VAX and not"),
        ([*rest, version], "version: is of another version: 0.0.1 and not"),
        ([*rest, seed], "seed: is of another seed: 2 and not 1"),
        ([*rest, text], "text: is of another model or text"),
        ([*rest, lacks], "lacks: lacks window 2"),
        ([*rest, more], "more: has a record 'window/0' that is not its own"),
        ([*rest, wrong], "wrong: record 'window/2' does not fit this run"),
        ([*rest, of], "of: is one of 5 parts"),
        ([whole], "whole.json: is not what compare --shard wrote"),
        ([here / "none.json"], "no such file"),
    ]:
        refuses(compare, "--merge", *given, says=says)
    refuses(compare, "--budgets", 9, "--merge", *files, says="--budgets is 8,16 in the parts, not 9")
    refuses(compare, "--shard", "1/2", "--merge", *files, says="cannot stand together")
    for text in ("0/4", "5/4", "1", "1/", "/2", "a/b", "1/4x"):
        refuses(compare, "--shard", text, "--json", here / "no.json", says="--shard must be i/n")
    refuses(compare, "--shard", "1/2", says="--shard needs --json")
    refuses(compare, "--shard", "1/2", "--json", here / "no.json", "--html", here / "no.html", says="--html cannot stand with --shard")
    check(not (here / "no.json").exists() and not journals(here), "nothing is left")


def several_texts(compare, folder):
    """Windows of each text; from five texts on intervals are over texts."""
    story = (DATA / "story.txt").read_bytes()
    texts = []
    for i in range(5):
        texts += ["--text", folder / f"text{i}.txt"]
        texts[-1].write_bytes(story[3000 * i : 3000 * i + 220 + 10 * i])
    ran = lambda n: json.loads(works(compare, *texts[: 2 * n], "--window", 64, "--policies", "tova,window", "--budgets", 8, "--json", "-").stdout)
    five, four = ran(5), ran(4)
    check([w["text"] for w in five["windows"]] == sorted(w["text"] for w in five["windows"]) and {w["text"] for w in five["windows"]} == set(range(5)), "windows of every text")
    check(five["bootstrap"]["over"] == "texts and blocks" and not five["bootstrap"]["this_text_only"] and four["bootstrap"]["over"] == "blocks" and four["bootstrap"]["this_text_only"], "texts first from five on")
    check(all(r["interval"] for r in five["rows"][1:]) and any("these texts only" in n for n in four["notes"]) and not any("these texts only" in n for n in five["notes"]), "and said")
    check(five["rows"][1]["window_differences"][: len(four["windows"])] == four["rows"][1]["window_differences"], "a text more changes nothing of the others")


def stories(compare, shared, folder):
    model = shared / "models" / "stories260K.bin"
    if not model.is_file():
        print("skipped: stories260K.bin is not there")
        return
    text = folder / "story.txt"
    text.write_text("Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big red ball. " * 20)
    report = json.loads(works(compare, "--model", model, "--text", text, "--budgets", "16,64", "--json", "-").stdout)
    rows = {(r["policy"], r["budget"]): r for r in report["rows"]}
    check(report["window"] == 512 and report["bos"] == 1, "its context and BOS")
    check(rows["full", None]["nll"] < 1.5, f"it has learnt such stories: {rows['full', None]['nll']}")
    check(rows["full", None]["bits_per_byte"] < rows["full", None]["nll"] / math.log(2), "a token has several bytes")


def main():
    compare, shared = arguments()
    with temporary() as name:
        folder = pathlib.Path(name)
        bad_usage(compare, folder)
        said_twice(compare)
        demo(compare, folder)
        options(compare, folder)
        begins_with_bos(compare, folder)
        overflow(compare, folder)
        unknown(compare, folder)
        tokenizers(compare, folder)
        little(compare, folder)
        long_path(compare, folder)
        commas(compare, folder)
        target(compare, folder)
        interrupt(compare, folder)
        outputs(compare, folder)
        forged(compare, folder)
        killed(compare, folder)
        going_on(compare, folder)
        in_parts(compare, folder)
        several_texts(compare, folder)
        if shared:
            stories(compare, shared, folder)
    finish()


main()
