#!/usr/bin/env python3
"""report_fixture.py [--large]: prints a SYNTHETIC result of compare, every field filled with made-up but consistent numbers, for tests of the report.
tests/data/report/synthetic.json is its output."""

import json
import math
import random
import sys

LARGE = "--large" in sys.argv
T, LAYERS, HEADS, WINDOWS = (1024, 6, 2, 40) if LARGE else (128, 2, 2, 8)
BUDGETS = [16, 64, 256] if LARGE else [16, 32]
COST = {"window": 0.8, "window+4": 0.3, "window+4@incache": 0.08, "random": 1.0, "h2o": 0.5, "h2o,scope=layer": 0.55, "tova": 0.35, "tova,scope=head": 0.6, "oracle": 0.03}
if not LARGE:
    COST = {p: COST[p] for p in ("window", "window+4", "random", "tova,scope=head", "oracle")}
STORY = "The <old> clock & its 12 bells stood in the hall.\nNobody wound it; \"why?\" asked Anna, </script> and nobody knew. " * (T // 50)
dice = random.Random(7)


def cost(policy, k):
    return COST[policy] * (16 / k) ** 1.2


def deaths(policy, k):
    """Who goes when one of k + 1 must: the oldest beside the sinks, or anybody."""
    sinks = 4 if policy.startswith("window+4") else 0
    out, live = [T] * T, []
    for t in range(T):
        live.append(t)
        if len(live) > k:
            if policy.startswith("window"):
                gone = live[sinks]
            elif policy == "random":
                gone = dice.choice(live)
            else:  # what has lived long tends to stay
                gone = min(live[:-1], key=lambda p: dice.random() + (0.8 if p % 17 in (0, 5) else 0) + (p == 0))
            live.remove(gone)
            out[gone] = t + 1
    return out


def wilson(right, n):
    p, z = right / n, 1.96
    middle, half = (p + z * z / 2 / n) / (1 + z * z / n), z * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n) / (1 + z * z / n)
    return [round(middle - half, 4), round(middle + half, 4)]


def survival(lives, ages):
    """Kaplan and Meier's estimate: of those alive at the age before that are followed to this one, the share that lives."""
    out, alive, before = [], 1.0, 0
    for a in ages:
        followed = [life for life in lives[: T - a] if life >= before]
        alive *= sum(life >= a for life in followed) / len(followed) if followed else 1
        out.append({"age": a, "alive": alive})
        before = a
    return out


rows = [{"policy": "full", "budget": None, "nll": 1.31, "nll_minus_full": 0.0, "perplexity": math.exp(1.31), "bits_per_byte": 1.89, "kl_mean": 0, "kl_p99": 0, "top1_agreement": 1, "states_attended_mean": T / 2,
         "states_attended_max": T, "mean_life": T / 2, "bytes_allocated": 3.3e6, "bytes_live": 1.6e6, "mark": None, "skipped": None, "letter": None}]
trace = []
for k in BUDGETS:
    for i, policy in enumerate(COST):
        c = cost(policy, k)
        diff = [round(c + dice.gauss(0, 0.02 * c + 0.002), 5) for _ in range(WINDOWS)]
        lanes = HEADS if "head" in policy or policy == "h2o" else 1
        layers = [[deaths(policy, k) for _ in range(lanes)] for _ in range(LAYERS)]
        if policy not in ("random", "oracle"):
            trace.append({"policy": policy, "budget": k, "layers": layers})
        lives = [d - p for p, d in enumerate(layers[0][0])]
        ages = [a for a in (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768) if a < T - 1]
        rows.append({"policy": policy, "budget": k, "nll": 1.31 + c, "nll_minus_full": c, "interval": [c * 0.93 - 0.003, c * 1.07 + 0.003], "gap_closed": 1 - c / cost("random", k), "kept_mass": 1 - c / 3,
                     "letter": "ab"[i % 2] + ("b" if i == 2 else ""), "perplexity": math.exp(1.31 + c), "bits_per_byte": 1.89 + c * 1.44, "kl_mean": c * 1.05, "kl_p99": c * 5, "top1_agreement": 1 - c / 2,
                     "recall": 1 - c / 2, "states_attended_mean": k + 1, "states_attended_max": k + 1, "mean_life": sum(lives) / T, "bytes_allocated": 3300.0 * (k + 3), "bytes_live": 3072.0 * k,
                     "mark": "k > T/4" if 4 * k > T else None, "skipped": None, "window_differences": diff, **({"seeds": [0, 1, 2, 3, 4]} if policy == "random" else {}),
                     "nll_by_position": [{"position": p, "count": 50, "difference": 0 if p <= k else c * (1 - math.exp((k - p) / T * 8)) + dice.gauss(0, c / 30)} for p in range(T // 32, T, T // 16)],
                     "survival": survival(lives, ages),
                     "life_by_kind": {kind: {"life": k * f, "share": s} for kind, f, s in [("blank", 0.7, 0.17), ("newline", 2.1, 0.02), ("punctuation", 1.6, 0.06), ("capital", 1.9, 0.04), ("digit", 1.2, 0.01),
                                                                                        ("letter", 0.95, 0.69), ("other", 0.8, 0.01)]}})
rows.append({"policy": "h2o,recent=64", "budget": BUDGETS[0], "nll_minus_full": None, "skipped": "needs \"0 <= recent <= budget\" & <more>"})

pairs = [{"budget": k, "a": a, "b": b, "difference": cost(a, k) - cost(b, k), "interval": [cost(a, k) - cost(b, k) - 0.02, cost(a, k) - cost(b, k) + 0.02], "p": 0.002, "p_holm": 0.02}
         for k in BUDGETS for a in COST for b in COST if a < b and "random" not in (a, b)]
cells, grid = [], []
for k in BUDGETS:
    for policy in COST:
        for facts in (1, 8):
            for over in (0.5, 1, 2, 4):
                for variant, share in (("last", math.exp(-COST[policy] * over * facts ** 0.3)), ("first_too", 0.97 - 0.1 * COST[policy]), ("removed", 0.02)):
                    if k * over >= T:
                        continue
                    right = round(400 * share)
                    cells.append({"policy": policy, "budget": k, "facts": facts, "variant": variant, "mode": "sequential", "distance": int(k * over), "distance_over_k": over, "right": right, "asked": 400,
                                  "share": right / 400, "interval": wilson(right, 400), "given_full": right / 398, "full_share": 0.985, "not_applicable": facts == 8 and over == 4})
        for length in (T // 4, T // 2, T):
            for depth in (0, 0.25, 0.5, 0.75, 1) if LARGE else (0, 0.5, 1):
                share = math.exp(-COST[policy] * (1 - depth) * length / k / 4)
                grid.append({"policy": policy, "budget": k, "length": length, "depth": depth, "right": round(share * 400), "asked": 400, "share": share, "not_applicable": length == T and depth == 0})

out = {"program": "multistate compare", "version": "0.1.0", "commit": "0000000", "synthetic": True, "command_line": ["compare", "--full", "--text", "it's <b>.txt", "--html", "report.html"],
       "model": {"path": "SYNTHETIC", "hash": "0123456789abcdef", "trained_context": T, "bytes_per_token": 3072.0}, "texts": [{"path": "it's <b>.txt", "hash": "fedcba9876543210", "tokens": 60000, "tokens_used": 60000}],
       "bos": 256, "bos_rule": "BOS (token 256) opens every window", "window": T, "stride": T // 2, "score": "tail", "scored_tokens": WINDOWS * T // 2, "scored_bytes": WINDOWS * T // 2, "chunk": 1, "format": "f32", "products": "exact",
       "simd_target": "AVX2", "threads": 2, "extrapolation": False, "interrupted": False, "notes": ["every number here is made up: a fixture of tests"],
       "windows": [{"text": 0, "first_token": i * T // 2, "queries": T, "scored_from": T // 2, "scored": T // 2} for i in range(WINDOWS)], "rows": rows,
       "bootstrap": {"resamples": 10000, "seed": 1, "block_windows": 8, "over": "blocks", "this_text_only": True}, "pairs": pairs,
       "trace": {"window": 0, "first_token": 0, "tokens": [256, *STORY.encode()][:T], "rows": trace}, "recall": {"facts": [1, 8], "questions": 400, "seed": 3, "cells": cells, "grid": grid},
       "free_run": {"tokens": 256, "prompt_tokens": 64, "rows": [{"policy": p, "budget": k, "first_divergence": None if p == "oracle" else 20 + k, "repeated_4grams": COST[p] / 5, "nll_under_full": 0.9 + COST[p],
                                                                   "sample": "and so <i>the</i> clock said nothing, said nothing & went on"} for k in BUDGETS for p in COST]},
       "against": {"path": "other.json", "simd_target": "SSSE3", "format": "f16", "version": "0", "rows": [{"policy": p, "budget": 64, "alike": 1 - COST[p] / 10} for p in COST]},
       "agreement": [{"policy": p, "budget": k, "alike": {"f16": 1 - COST[p] / 50, "bf16": 1 - COST[p] / 10, "i8": 1 - COST[p] / 5}} for k in BUDGETS for p in COST],
       "prompt_modes": [{"policy": p, "budget": k, "mode": m, "nll_minus_full": cost(p, k), "interval": [cost(p, k) - 0.02, cost(p, k) + 0.02], "recall": 0.8, "states_attended_max": k + 1} for k in BUDGETS for p in COST for m in ("sequential", "one_shot")],
       "time": {"rows": [{"policy": p, "budget": k, "tokens_per_second": {"median": 9000 - 10 * k, "low": 8800 - 10 * k, "high": 9100 - 10 * k}, "attention_us": 10 + k / 4, "policy_us": 4 + COST[p], "rest_us": 60,
                          "by_position": [{"position": at, "attention_us": 6 + min(at, k) / 4, "policy_us": 4 + COST[p], "rest_us": 60} for at in range(0, T, T // 16)]}
                         for k in BUDGETS for p in COST]}}


def rounded(x):
    if isinstance(x, float):
        return float(f"{x:.5g}")
    if isinstance(x, dict):
        return {key: rounded(v) for key, v in x.items()}
    return [rounded(v) for v in x] if isinstance(x, list) else x


print(json.dumps(rounded(out), separators=(",", ":")))
