"""How good a model is under the full cache: bits per byte of unseen text, recall, attention sinks.

python evaluate.py --model FOLDER --texts TEXTS [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from data import ANSWER_BYTES, read_texts, recall_questions, validation_pieces
from export import load_folder
from model import Llama

DISTANCES = (64, 200, 450, 900)


@torch.no_grad()
def bits_per_byte(model: Llama, pieces: Tensor, together: int = 16) -> tuple[float, float]:
    """Of all bytes, and of each piece's second half, which has most of the context behind it."""
    total = late = 0.0
    half = (pieces.shape[1] - 1) // 2
    for at in range(0, len(pieces), together):
        part = pieces[at : at + together]
        loss = F.cross_entropy(model(part[:, :-1]).mT.double(), part[:, 1:], reduction="none")
        total += loss.sum().item()
        late += loss[:, half:].sum().item()
    targets = len(pieces) * (pieces.shape[1] - 1)
    return total / targets / math.log(2), late / (len(pieces) * (pieces.shape[1] - 1 - half)) / math.log(2)


@torch.no_grad()
def recall(model: Llama, questions: Tensor, together: int = 16) -> int:
    """Answers right: every byte of the value is the likeliest one, given those before it."""
    right = 0
    for at in range(0, len(questions), together):
        part = questions[at : at + together]
        best = model(part[:, :-1])[:, -ANSWER_BYTES:].argmax(-1)
        right += int((best == part[:, -ANSWER_BYTES:]).all(1).sum())
    return right


@dataclass(frozen=True)
class Sink:
    """Attention on position 0, [layers][heads] (Gu et al. 2024, arXiv 2410.10781)."""

    rate: list[list[float]]  # share of sequences whose mean weight on position 0, over all queries, is above 0.3
    mean: list[list[float]]  # that mean weight itself, mean over sequences
    late: list[list[float]]  # the same over the queries of the second half only

    def metric(self) -> float:
        """The paper's: share of heads with a sink, all layers, mean over sequences."""
        rates = [rate for layer in self.rate for rate in layer]
        return sum(rates) / len(rates)


SINK_THRESHOLD = 0.3
SINK_TOKENS, SINK_SEQUENCES = 64, 100  # as in the paper


@torch.no_grad()
def sinks(model: Llama, pieces: Tensor) -> Sink:
    importance: list[Tensor] = []  # a sequence: [layers, heads]
    late: list[Tensor] = []
    for piece in pieces:
        rows = torch.stack([r[0] for r in model.attention_rows(piece[None, :-1])])  # [layer, head, query, key]
        importance.append(rows[..., 0].mean(-1))
        late.append(rows[..., rows.shape[2] // 2 :, 0].mean(-1))
    each = torch.stack(importance)
    return Sink(
        (each > SINK_THRESHOLD).float().mean(0).tolist(), each.mean(0).tolist(), torch.stack(late).mean(0).tolist()
    )


def wilson(right: int, asked: int) -> tuple[float, float]:
    """95 % interval of a share."""
    z, p = 1.959964, right / asked
    middle = (p + z * z / (2 * asked)) / (1 + z * z / asked)
    half = z / (1 + z * z / asked) * math.sqrt(p * (1 - p) / asked + z * z / (4 * asked * asked))
    return max(0.0, middle - half), min(1.0, middle + half)


def evaluate(model: Llama, texts: list[bytes], pieces: int, questions: int) -> dict[str, Any]:
    length = model.config.context
    model.eval()
    valid = validation_pieces(texts, pieces, length)
    all_bytes, late = bits_per_byte(model, valid)
    result: dict[str, Any] = {
        "context": length,
        "validation_bytes": pieces * length,
        "bits_per_byte": all_bytes,
        "bits_per_byte_second_half": late,
        "recall": [],
    }
    for facts in (1, 4, 8):
        for distance in DISTANCES:
            if distance + 32 > length:
                continue
            right = recall(model, recall_questions(texts, questions, length, distance, facts))
            low, high = wilson(right, questions)
            result["recall"].append(
                {"facts": facts, "distance": distance, "right": right, "asked": questions, "low": low, "high": high}
            )
    result["sink"] = {"threshold": SINK_THRESHOLD, "lengths": []}
    for tokens, sequences in ((min(SINK_TOKENS, length), SINK_SEQUENCES), (length, 32)):
        s = sinks(model, valid[:sequences, : tokens + 1])
        result["sink"]["lengths"].append(
            {
                "tokens": tokens,
                "sequences": min(sequences, pieces),
                "metric": s.metric(),
                "rate": s.rate,
                "mean": s.mean,
                "mean_second_half": s.late,
            }
        )
    return result


def table(result: dict[str, Any]) -> str:
    lines = [
        f"bits per byte           {result['bits_per_byte']:.4f}   ({result['validation_bytes']} bytes of unseen text, "
        f"pieces of {result['context']})",
        f"  second halves         {result['bits_per_byte_second_half']:.4f}",
    ]
    for cell in result["recall"]:
        lines.append(
            f"recall {cell['facts']} fact{'s' if cell['facts'] > 1 else ' '} at {cell['distance']:4d}   "
            f"{cell['right'] / cell['asked']:.4f}   {cell['right']} of {cell['asked']}, "
            f"95 %: {cell['low']:.3f} to {cell['high']:.3f}"
        )
    for sink in result["sink"]["lengths"]:
        lines.append(
            f"sink metric, {sink['tokens']:4d} tokens  {sink['metric']:.4f}   heads with a mean weight on position 0 above "
            f"{result['sink']['threshold']}; {sink['sequences']} sequences"
        )
        for layer, (mean, late) in enumerate(zip(sink["mean"], sink["mean_second_half"])):
            heads = "  ".join(f"{m:.3f} ({l:.3f})" for m, l in zip(mean, late))
            lines.append(f"  layer {layer}               {heads}")
    lines.append("  a head: mean weight on position 0 (of queries in the second half)")
    return "\n".join(lines)


def main() -> int:
    args = argparse.ArgumentParser(description="Bits per byte, recall and attention sinks under the full cache.")
    args.add_argument("--model", required=True, help="folder with config.json and model.safetensors")
    args.add_argument("--texts", required=True, help="folder of texts, as for train.py; its validation part is used")
    args.add_argument("--pieces", type=int, default=192, help="validation pieces, each as long as the context")
    args.add_argument(
        "--questions", type=int, default=400, help="recall questions for each number of facts and distance"
    )
    args.add_argument("--threads", type=int, default=0, help="0: as many as PyTorch likes")
    args.add_argument("--json", help="write the figures here")
    a = args.parse_args()
    if a.threads > 0:
        torch.set_num_threads(a.threads)
    try:
        if a.pieces < 1 or a.questions < 1:
            raise ValueError(f"--pieces and --questions must be at least 1; got {a.pieces} and {a.questions}")
        result = evaluate(load_folder(a.model), read_texts(a.texts).valid, a.pieces, a.questions)
    except (OSError, ValueError) as e:
        print(f"evaluate.py: {e}", file=sys.stderr)
        return 2
    print(table(result))
    if a.json:
        Path(a.json).write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
