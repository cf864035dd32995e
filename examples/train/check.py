"""Checks the program `compare` against policies written a second time, in PyTorch, from their descriptions.

    python check.py --compare BIN/compare --replay BIN/replay [--model FOLDER] [--text FILE]

1. Loss: every policy at every budget, token by token and in chunks, on the same windows of the same text. Each row's
   loss per token, and each window's difference to the full cache, must be within 1e-4 nats of what `compare` says.
2. Kept positions: queries, keys and values of the first window, as each layer has them under the policy, go through
   `replay`. Each decision is computed anew in double from what `replay` had kept before, so that one difference does
   not hide or cause others. A decision may differ only where the worths of what one dropped and the other kept differ
   by less than 1e-6 of themselves: a near tie, which rounding decides. Near ties are counted.

A window whose loss is apart is let pass, and counted, only where one of its decisions was a near tie. That happens to
knorm, which looks at keys before they are turned: in the first layer equal bytes have equal keys to the bit, so that
the oldest of them goes; higher up the same byte after the same cache has the same key but for rounding.

Everything here is computed in double, angles too, as in the library. Angles in float32, as Hugging Face has them, are
wrong by 3e-5 at position 1000, which is enough to turn a decision now and then.

All states stay where they are, and a mask says which are alive: nothing is shared with the library's cache of slots.
Exit status: 0 all the same, 1 something differs, 2 bad usage or input.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from export import load_folder
from model import BOS, Llama, ModelConfig, rotate

LOSS_TOLERANCE = 1e-4
NEAR_TIE = 1e-6


@dataclass(frozen=True)
class Rule:
    name: str  # as compare takes it
    worth: str  # age, random, attention, accumulated, normalised, key_norm
    scope: str = "layer"  # one kept set a layer, or one a KV head
    first: int = 0  # so many of the sequence's first stay
    recent_half: bool = False  # the newest k - k/2 stay
    positions: str = "original"  # which angles: of the token; incache: by place in the cache; log: long gaps shrink
    seed: int = 0

    def protected(self, positions: Tensor, now: int, budget: int) -> Tensor:
        newest = budget - budget // 2 if self.recent_half else 0
        return (positions < self.first) | (positions > now - newest)


RULES = [
    Rule("window", "age"),
    Rule("window+4", "age", first=4),
    Rule("window+4@incache", "age", first=4, positions="incache"),
    Rule("window+4@log", "age", first=4, positions="log"),
    Rule("random", "random", scope="head"),
    Rule("h2o", "accumulated", scope="head", recent_half=True),
    Rule("h2o,scope=layer", "accumulated", recent_half=True),
    Rule("h2o,normalised=true", "normalised", scope="head", recent_half=True),
    Rule("tova", "attention"),
    Rule("tova,scope=head", "attention", scope="head"),
    Rule("tova,pinned=4", "attention", first=4),
    Rule("knorm", "key_norm", scope="head"),
    Rule("knorm@incache", "key_norm", scope="head", positions="incache"),
    Rule("tova@log", "attention", positions="log"),
]
RANDOM_SEEDS = 5  # compare's row is their mean

WORD = (1 << 64) - 1


def mix(x: int) -> int:
    """A step of splitmix64."""
    x = (x + 0x9E3779B97F4A7C15) & WORD
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & WORD
    return x ^ (x >> 31)


def mix_all(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def random_worth(seed: int, layer: int, lanes: int, now: int) -> Tensor:
    """[lanes, positions 0 to now]: 24 bits that float32 holds."""
    worth = np.empty((lanes, now + 1))
    for lane in range(lanes):
        draw = mix(mix(seed ^ mix(layer << 32 | lane)) ^ now)
        worth[lane] = mix_all(np.arange(now + 1, dtype=np.uint64) ^ np.uint64(draw)) >> np.uint64(40)
    return torch.from_numpy(worth)


def exact_angles(at: Tensor, c: ModelConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines [..., head_dim] at positions [...]."""
    pair = torch.arange(0, c.head_dim, 2, dtype=torch.float64)
    angles = at.double()[..., None] * c.rope_theta ** (-pair / c.head_dim)
    angles = torch.cat([angles, angles], -1)
    return angles.cos(), angles.sin()


def log_positions(alive: Tensor) -> Tensor:
    """Of a mask over positions [..., seen]: sums of the gaps between the living, those above 10 as ln(ln gap)."""
    at = torch.arange(alive.shape[-1]).expand(alive.shape)
    newest = torch.where(alive, at, -1).cummax(-1).values  # up to each position
    before = torch.cat([torch.full_like(newest[..., :1], -1), newest[..., :-1]], -1)
    gap = torch.where(alive & (before >= 0), at - before, 0).double()
    return torch.where(gap > 10, gap.clamp_min(11).log().log(), gap).cumsum(-1)


def closest_call(dropped: Tensor, stays: Tensor) -> Tensor:
    """The smallest relative difference of a worth that is dropped and another one that stays; both are sorted. Equal
    worths are no close call, the oldest goes, but behind them there may be one."""
    highest, lowest = dropped[..., -1:], stays[..., :1]
    above = stays.masked_fill(stays == highest, float("inf")).amin(-1) - highest[..., 0]
    below = lowest[..., 0] - dropped.masked_fill(dropped == lowest, float("-inf")).amax(-1)
    return (torch.minimum(above, below) / lowest[..., 0].abs().clamp_min(1e-300)).nan_to_num(float("inf"))


class LayerPolicy:
    """One layer's kept sets: a mask over all positions."""

    def __init__(self, rule: Rule, budget: int, layer: int, windows: int, kv_heads: int, tokens: int) -> None:
        self.rule, self.budget, self.layer = rule, budget, layer
        self.lanes = kv_heads if rule.scope == "head" else 1
        self.alive = torch.zeros(windows, self.lanes, tokens, dtype=torch.bool)
        self.sums = torch.zeros(windows, self.lanes, tokens, dtype=torch.float64)
        self.margin = torch.full((windows,), float("inf"), dtype=torch.float64)  # closest call so far, relative

    def enter(self, at: int, count: int) -> None:
        self.alive[..., at : at + count] = True

    def visible(self, at: int, count: int) -> Tensor:
        """[windows, lanes, query, key]: what each query of the chunk attends."""
        causal = torch.arange(at + count)[None, :] <= torch.arange(at, at + count)[:, None]
        return self.alive[..., None, : at + count] & causal

    def see(self, rows: Tensor, keys: Tensor) -> Tensor:
        """Of softmax rows [windows, heads, query, key] and all keys so far: worth [windows, lanes, key]."""
        windows, heads, queries, seen = rows.shape
        lane_rows = rows.view(windows, self.lanes, heads // self.lanes, queries, seen).sum(2)
        worth = self.rule.worth
        if worth in ("accumulated", "normalised"):
            self.sums[..., :seen] += lane_rows.double().sum(2)
        if worth == "attention":
            return lane_rows[:, :, -1].double()
        if worth == "accumulated":
            return self.sums[..., :seen].clone()
        if worth == "normalised":
            return self.sums[..., :seen] / torch.arange(seen, 0, -1)
        if worth == "random":
            return random_worth(self.rule.seed, self.layer, self.lanes, seen - 1).expand(windows, -1, -1).clone()
        if worth == "key_norm":
            # to 40 bits: equal keys have equal lengths in whatever order they are added up, and others keep theirs
            mantissa, exponent = keys.square().sum(-1).sqrt().frexp()
            norms = torch.ldexp((mantissa * 2**40).round() / 2**40, exponent)
            return -(norms if self.rule.scope == "head" else norms.sum(1, keepdim=True))
        return torch.arange(seen, dtype=torch.float64).expand(windows, self.lanes, seen).clone()

    def candidates(self, worth: Tensor) -> Tensor:
        """Worth with infinity for whatever is gone or protected."""
        seen = worth.shape[-1]
        held = self.rule.protected(torch.arange(seen), seen - 1, self.budget)
        return worth.masked_fill(held | ~self.alive[..., :seen], float("inf"))

    def drop(self, worth: Tensor) -> Tensor:
        """Drops the lowest above the budget, of equals the oldest; returns the mask of what went."""
        seen = worth.shape[-1]
        extra = int(self.alive[0, 0].sum()) - self.budget
        gone = torch.zeros_like(self.alive[..., :seen])
        if extra > 0:
            ranked, order = self.candidates(worth).sort(dim=-1, stable=True)
            gone.scatter_(-1, order[..., :extra], True)
            relative = closest_call(ranked[..., :extra], ranked[..., extra:])
            if self.rule.worth == "key_norm" and self.layer > 0:
                relative = relative.masked_fill(ranked[..., extra - 1] == ranked[..., extra], 0.0)
            self.margin = self.margin.minimum(relative.amin(1))
            self.alive[..., :seen] &= ~gone
        return gone


@dataclass
class Record:
    """What one layer computed in the first window: [token, head, dim], rotated; bare: keys before that."""

    q: list[Tensor]
    k: list[Tensor]
    v: list[Tensor]
    bare: list[Tensor]


@torch.no_grad()
def run(model: Llama, tokens: Tensor, rule: Rule, budget: int, chunk: int) -> tuple[Tensor, list[Record], Tensor]:
    """Under the policy: log softmax [windows, token, vocabulary]; the first window's record of each layer; how close
    the closest decision of each window was."""
    c = model.config
    windows, length = tokens.shape
    group = c.heads // c.kv_heads
    policies = [LayerPolicy(rule, budget, i, windows, c.kv_heads, length) for i in range(c.layers)]
    shape = (windows, c.kv_heads, length, c.head_dim)
    bare_keys = [torch.zeros(shape, dtype=torch.float64) for _ in policies]  # not rotated
    keys = [torch.zeros(shape, dtype=torch.float64) for _ in policies]
    values = [torch.zeros(shape, dtype=torch.float64) for _ in policies]
    records = [Record([], [], [], []) for _ in policies]
    cos, sin = exact_angles(torch.arange(length), c)
    out = []
    for at in range(0, length, chunk):
        count = min(chunk, length - at)
        end = at + count
        x = model.embed_tokens(tokens[:, at:end])
        for i, block in enumerate(model.layers):
            q, k, v = block.self_attn.project(block.input_layernorm(x))
            policy = policies[i]
            policy.enter(at, count)
            grouped = (windows, c.kv_heads, group, count, c.head_dim)
            bare_keys[i][:, :, at:end], values[i][:, :, at:end] = k, v
            keys[i][:, :, at:end] = rotate(k, cos[at:end], sin[at:end])
            visible = policy.visible(at, count)
            if rule.positions != "original":
                alive = policy.alive[..., :end]
                if rule.positions == "log":
                    turns = exact_angles(log_positions(alive), c)
                else:
                    place = (alive.long().cumsum(-1) - 1).clamp_min(0)
                    turns = cos[place], sin[place]
                turned = rotate(bare_keys[i][:, :, :end], *turns)
                # of the queries, for each head of a group
                turned_q = rotate(q.view(grouped), *(x[:, :, None, at:] for x in turns))
            else:
                turned = keys[i][:, :, :end]
                turned_q = rotate(q, cos[at:end], sin[at:end]).view(grouped)
            scores = turned_q @ turned[:, :, None].mT / c.head_dim**0.5
            rows = scores.masked_fill(~visible[:, :, None], float("-inf")).softmax(-1)
            y = rows @ values[i][:, :, None, :end]
            y = y.view(windows, c.heads, count, c.head_dim).transpose(1, 2).flatten(2)
            records[i].q.append(rotate(q[0], cos[at:end], sin[at:end]).transpose(0, 1))
            records[i].k.append(keys[i][0, :, at:end].transpose(0, 1))
            records[i].v.append(v[0].transpose(0, 1))
            records[i].bare.append(k[0].transpose(0, 1))
            policy.drop(policy.see(rows.view(windows, c.heads, count, end), bare_keys[i][:, :, :end]))
            x = x + block.self_attn.o_proj(y)
            x = x + block.mlp(block.post_attention_layernorm(x))
        out.append(model.lm_head(model.norm(x)).double().log_softmax(-1))
    return torch.cat(out, 1), records, torch.stack([p.margin for p in policies]).amin(0)


@dataclass
class Decisions:
    same: int = 0
    near_ties: int = 0
    wrong: int = 0
    worst: float = 0.0  # largest relative difference of worth among those that differ

    def add(self, other: Decisions) -> None:
        self.same += other.same
        self.near_ties += other.near_ties
        self.wrong += other.wrong
        self.worst = max(self.worst, other.worst)


def judge(q: Tensor, k: Tensor, bare: Tensor, kept: Tensor, rule: Rule, budget: int, chunk: int, layer: int) -> Decisions:
    """Every reduction of one layer that replay made: kept [reductions, lanes, budget], -1 for none."""
    q, k, bare = (x.double().transpose(0, 1)[None] for x in (q, k, bare))
    kv_heads, length, dim = k.shape[1:]
    policy = LayerPolicy(rule, budget, layer, 1, kv_heads, length)
    found = Decisions()
    for step, at in enumerate(range(0, length, chunk)):
        count = min(chunk, length - at)
        end = at + count
        policy.enter(at, count)
        scores = q[:, :, at:end].view(1, kv_heads, -1, count, dim) @ k[:, :, None, :end].mT / dim**0.5
        rows = scores.masked_fill(~policy.visible(at, count)[:, :, None], float("-inf")).softmax(-1)
        worth = policy.see(rows.view(1, -1, count, end), bare[:, :, :end])
        ranked = policy.candidates(worth)[0]
        before = policy.alive[0, :, :end].clone()
        mine = policy.drop(worth)[0]
        for lane in range(policy.lanes):
            theirs = torch.zeros(end, dtype=torch.bool)
            theirs[kept[step, lane][kept[step, lane] >= 0].long()] = True
            gone = before[lane] & ~theirs
            invented = bool((theirs & ~before[lane]).any())
            if not invented and bool((gone == mine[lane]).all()):
                found.same += 1
            else:
                only_they, only_i = ranked[lane][gone & ~mine[lane]], ranked[lane][mine[lane] & ~gone]
                apart = float("inf")
                if not invented and len(only_they) == len(only_i):
                    size = max(only_they.abs().max().item(), 1e-300)
                    apart = (only_they.max() - only_i.min()).item() / size
                found.worst = max(found.worst, apart)
                if apart < NEAR_TIE:
                    found.near_ties += 1
                else:
                    found.wrong += 1
            policy.alive[0, lane, :end] = theirs
    return found


def kept_by_replay(
    replay: str, record: Record, rule: Rule, budget: int, chunk: int, folder: Path
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    q, k, v, bare = (torch.cat(x).float().contiguous() for x in (record.q, record.k, record.v, record.bare))
    save_file({"q": q, "k": k, "v": v, "k_pre": bare}, folder / "record.safetensors")
    name, _, options = rule.name.partition("@")[0].partition(",")
    policy = f"{name}:{budget}" + (f",{options}" if options else "")
    call = [replay, str(folder / "record.safetensors"), "--policy", policy, "--out", str(folder / "kept.safetensors")]
    if chunk > 1:
        call += ["--chunk", str(chunk)]
    done = subprocess.run(call, capture_output=True, text=True)
    if done.returncode != 0:
        raise ValueError(f"{' '.join(call)}: exit status {done.returncode}: {done.stderr.strip()}")
    return q, k, bare, load_file(folder / "kept.safetensors")["kept"]


def read_windows(text: bytes, count: int, length: int) -> tuple[Tensor, Tensor]:
    """Inputs (BOS and length - 1 bytes) and targets, stride length/2: as compare cuts a text of this size."""
    half = length // 2
    if len(text) < half * (count + 1):
        raise ValueError(f"--text: {count} windows of {length} need {half * (count + 1)} bytes; it has {len(text)}")
    ids = torch.tensor(list(text[: half * (count + 1)]))
    targets = torch.stack([ids[w * half : w * half + length] for w in range(count)])
    return torch.cat([torch.full((count, 1), BOS), targets[:, :-1]], 1), targets


def losses(log_softmax: Tensor, targets: Tensor) -> Tensor:
    """Mean over the second half of each window: [windows]."""
    half = targets.shape[1] // 2
    return -log_softmax.gather(-1, targets[..., None])[:, half:, 0].mean(1)


def call_compare(a: argparse.Namespace, chunk: int, budgets: list[int]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "compare.json"
        call = [a.compare, "--model", a.model, "--text", a.text, "--window", str(a.window), "--chunk", str(chunk)]
        call += ["--tokens", str(a.window // 2 * (a.windows + 1)), "--policies", ",".join(r.name for r in RULES)]
        call += ["--budgets", ",".join(map(str, budgets)), "--threads", str(a.threads), "--quiet", "--json", str(out)]
        done = subprocess.run(call, capture_output=True, text=True)
        if done.returncode != 0:
            raise ValueError(f"{' '.join(call)}: exit status {done.returncode}: {done.stderr.strip()}")
        return json.loads(out.read_text())


def main() -> int:
    here = Path(__file__).resolve().parent
    args = argparse.ArgumentParser(description="Compares the program compare with policies written in PyTorch.")
    args.add_argument("--compare", required=True, help="the built program")
    args.add_argument("--replay", required=True, help="the built program")
    args.add_argument(
        "--model", default=str(here.parent / "data" / "demo_model"), help="byte-level Llama; the demo model"
    )
    args.add_argument("--text", default=str(here.parent / "data" / "story.txt"), help="the demo text")
    args.add_argument("--windows", type=int, default=4)
    args.add_argument("--window", type=int, default=1024, help="tokens of a window, even")
    args.add_argument("--budgets", default="32,128")
    args.add_argument("--chunks", default="1,24", help="1 is token by token")
    args.add_argument("--threads", type=int, default=1)
    a = args.parse_args()
    torch.set_num_threads(a.threads)
    try:
        budgets, chunks = [int(x) for x in a.budgets.split(",")], [int(x) for x in a.chunks.split(",")]
        if a.window < 2 or a.window % 2 or a.windows < 1:
            raise ValueError(f"--window must be even and --windows at least 1; got {a.window} and {a.windows}")
        model = load_folder(a.model).double()
        inputs, targets = read_windows(Path(a.text).read_bytes(), a.windows, a.window)
        return check(a, model, inputs, targets, budgets, chunks)
    except (OSError, ValueError) as e:
        print(f"check.py: {e}", file=sys.stderr)
        return 2


def check(
    a: argparse.Namespace, model: Llama, inputs: Tensor, targets: Tensor, budgets: list[int], chunks: list[int]
) -> int:
    print(
        f"{'':<22} {'':>6} {'':>5} {'loss, nats per token':^32} {'a window':^18}  {'decisions of replay':^35}\n"
        f"{'policy':<22} {'states':>6} {'chunk':>5} {'here':>10} {'compare':>10} {'apart':>10} "
        f"{'apart':>9} {'let pass':>8}  {'same':>8} {'near ties':>9} {'wrong':>6} {'worst':>9}"
    )
    bad = let_pass = 0
    total = Decisions()
    for chunk in chunks:
        theirs = call_compare(a, chunk, budgets)
        if len(theirs["windows"]) != a.windows:
            raise ValueError(f"compare made {len(theirs['windows'])} windows; {a.windows} would be right")
        rows = {(row["policy"], row["budget"]): row for row in theirs["rows"]}
        everything = Rule("full", "age")
        full = losses(run(model, inputs, everything, a.window, chunk)[0], targets)
        for rule, budget in [(everything, None), *((r, b) for b in budgets for r in RULES)]:
            row = rows[rule.name, budget]
            mine, margin, decisions = full, torch.full((a.windows,), float("inf")), Decisions()
            if budget is not None:
                mine, margin, decisions = one_row(a.replay, model, inputs, targets, rule, budget, chunk)
            mean = mine.mean().item()
            apart = abs(mean - row["nll"])
            each = (mine - full - torch.tensor(row["window_differences"], dtype=torch.float64)).abs()
            off = ~(each <= LOSS_TOLERANCE)
            passed = off & (margin < NEAR_TIE)
            wrong = bool((off & ~passed).any()) or decisions.wrong > 0 or not (apart <= LOSS_TOLERANCE or passed.any())
            bad += wrong
            let_pass += int(passed.sum())
            total.add(decisions)
            print(
                f"{rule.name:<22} {budget or 'all':>6} {chunk:>5} {mean:>10.6f} {row['nll']:>10.6f} {apart:>10.1e} "
                f"{each.max().item():>9.1e} {int(passed.sum()):>8}  "
                f"{decisions.same:>8} {decisions.near_ties:>9} {decisions.wrong:>6} {decisions.worst:>9.1e}"
                f"{'  DIFFERENT' if wrong else ''}",
                flush=True,
            )
    print(
        f"\n{total.same + total.near_ties + total.wrong} decisions: {total.same} the same, {total.near_ties} near ties "
        f"(worths within {NEAR_TIE:g}), {total.wrong} wrong\n"
        f"{bad} rows differ; {let_pass} windows with a near tie were let pass"
    )
    return 1 if bad else 0


def one_row(
    replay: str, model: Llama, inputs: Tensor, targets: Tensor, rule: Rule, budget: int, chunk: int
) -> tuple[Tensor, Tensor, Decisions]:
    """Each window's loss, its closest decision, and what became of replay's decisions in the first window."""
    seeds = range(RANDOM_SEEDS if rule.worth == "random" else 1)
    loss, decisions = torch.zeros(len(inputs), dtype=torch.float64), Decisions()
    closest = torch.full((len(inputs),), float("inf"), dtype=torch.float64)
    for seed in seeds:
        seeded = replace(rule, seed=seed)
        result, records, margin = run(model, inputs, seeded, budget, chunk)
        loss += losses(result, targets) / len(seeds)
        closest = closest.minimum(margin)
        if seed > 0:
            continue
        with tempfile.TemporaryDirectory() as folder:
            # replay takes its layer for layer 0, which a random draw depends on
            for layer, record in enumerate(records[: 1 if rule.worth == "random" else None]):
                q, k, bare, kept = kept_by_replay(replay, record, rule, budget, chunk, Path(folder))
                decisions.add(judge(q, k, bare, kept, seeded, budget, chunk, layer))
    return loss, closest, decisions


if __name__ == "__main__":
    sys.exit(main())
