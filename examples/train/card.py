"""Prints the model card's tables, in Markdown, from what evaluate.py --json and train.py wrote.

python card.py RUN...        each with evaluation.json and log.jsonl
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def read(run: str) -> dict[str, Any]:
    log = [json.loads(line) for line in (Path(run) / "log.jsonl").read_text().splitlines()]
    evaluation = json.loads((Path(run) / "evaluation.json").read_text())
    return {"seed": log[0]["settings"]["seed"], "log": log[1:], **evaluation}


def line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join([line(head), "|---|" + "---:|" * (len(head) - 1), *map(line, rows)])


def main(runs: list[str]) -> int:
    if not runs:
        print("card.py: name at least one RUN folder", file=sys.stderr)
        return 2
    try:
        seeds = [read(run) for run in runs]
    except (OSError, ValueError) as e:
        print(f"card.py: {e}", file=sys.stderr)
        return 2
    rows = [
        ["tokens trained", *(f"{s['log'][-1]['tokens']:,}" for s in seeds)],
        ["bits per byte", *(f"{s['bits_per_byte']:.4f}" for s in seeds)],
        ["bits per byte, second halves", *(f"{s['bits_per_byte_second_half']:.4f}" for s in seeds)],
    ]
    for i, cell in enumerate(seeds[0]["recall"]):
        facts = f"{cell['facts']} fact" + "s" * (cell["facts"] > 1)
        rows.append([f"recall, {facts}, {cell['distance']} bytes away"])
        for s in seeds:
            c = s["recall"][i]
            rows[-1].append(f"{c['right'] / c['asked']:.4f} ({c['low']:.3f} to {c['high']:.3f})")
    for i, sink in enumerate(seeds[0]["sink"]["lengths"]):
        at = [s["sink"]["lengths"][i] for s in seeds]
        rows.append([f"sink metric, {sink['tokens']} tokens", *(f"{s['metric']:.4f}" for s in at)])
        for layer in range(len(sink["mean"])):
            heads = [" ".join(f"{m:.3f}" for m in s["mean"][layer]) for s in at]
            rows.append([f"weight on position 0, layer {layer}, by head", *heads])
    print(table(["", *(f"seed {s['seed']}" for s in seeds)], rows))
    print()
    print(
        table(
            ["tokens", "length", *(f"seed {s['seed']}" for s in seeds)],
            [
                [f"{c['tokens']:,}", str(c["length"]), *(f"{s['log'][i]['bits_per_byte']:.3f}" for s in seeds)]
                for i, c in enumerate(seeds[0]["log"])
            ],
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
