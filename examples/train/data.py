"""Texts from a folder, and what is made of them: training batches, validation pieces, recall questions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor

import tasks
from model import BOS


@dataclass(frozen=True)
class Texts:
    train: list[bytes]
    valid: list[bytes]


def read_texts(folder: str | Path) -> Texts:
    """folder/train and folder/valid, or else the last twentieth of every text in the folder is kept for validation."""
    folder = Path(folder)

    def read(where: Path) -> list[bytes]:
        return [f.read_bytes() for f in sorted(where.glob("*.txt"))]

    if (folder / "train").is_dir() and (folder / "valid").is_dir():
        texts = Texts(read(folder / "train"), read(folder / "valid"))
    else:
        whole = read(folder)
        texts = Texts([t[: len(t) * 19 // 20] for t in whole], [t[len(t) * 19 // 20 :] for t in whole])
    least = 4096
    for name, part in (("train", texts.train), ("valid", texts.valid)):
        if not part or min(len(t) for t in part) < least:
            sizes = min((len(t) for t in part), default=0)
            raise ValueError(
                f"--texts {folder}: needs .txt files that leave at least {least} bytes each to {name}; "
                f"found {len(part)} files, the smallest of {sizes}"
            )
    return texts


def piece_of(r: Random, texts: list[bytes], length: int) -> bytes:
    """Each byte of the texts is as likely as any other to be the first."""
    at = r.randrange(sum(max(1, len(t) - length) for t in texts))
    for t in texts:
        starts = max(1, len(t) - length)
        if at < starts:
            return t[at : at + length]
        at -= starts
    raise AssertionError("at is below the sum")


@dataclass(frozen=True)
class Mixture:
    """How often a training sequence has a task, early (to get looking back started) and later."""

    needles: float = 0.6
    needles_early: float = 0.7
    copies: float = 0.15
    copies_early: float = 0.6
    names: float = 0.35
    prose: float = 0.1
    answer_weight: float = 3.0


def sequence(r: Random, texts: list[bytes], length: int, mix: Mixture, early: bool) -> tuple[bytes, list[float]]:
    def piece(n: int) -> bytes:
        return piece_of(r, texts, n)

    text = piece(length)
    if r.random() < mix.names:
        text = (tasks.rename(r, text) + piece(length))[:length]
    inserts: list[tasks.Insert] = []
    if r.random() < mix.prose:
        inserts += tasks.prose(r, length, mix.answer_weight)
    elif r.random() < (mix.needles_early if early else mix.needles):
        inserts += tasks.needles(r, length, mix.answer_weight)
    if r.random() < (mix.copies_early if early else mix.copies):
        inserts += tasks.copies(r, length, piece)
    return tasks.weave(text, inserts, length)


@dataclass(frozen=True)
class Batch:
    inputs: Tensor  # [sequences, length]
    targets: Tensor
    weights: Tensor


def batch(texts: list[bytes], seed: int, step: int, count: int, length: int, mix: Mixture, early: bool) -> Batch:
    """Depends on nothing but its arguments, so that a run that is resumed sees what an uninterrupted one sees."""
    r = Random(f"{seed} {step}")
    ids = np.full((count, length + 1), BOS, np.int64)
    weights = np.zeros((count, length), np.float32)
    for i in range(count):
        text, each = sequence(r, texts, length, mix, early)
        ids[i, 1:] = np.frombuffer(text, np.uint8)
        weights[i] = each
    tokens = torch.from_numpy(ids)
    return Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), torch.from_numpy(weights))


def validation_pieces(texts: list[bytes], count: int, length: int, seed: int = 1) -> Tensor:
    """[count, 1 + length]: BOS and a piece; the texts take turns."""
    r = Random(f"validation {seed}")
    ids = np.full((count, length + 1), BOS, np.int64)
    for i in range(count):
        t = texts[i % len(texts)]
        at = r.randrange(len(t) - length)
        ids[i, 1:] = np.frombuffer(t[at : at + length], np.uint8)
    return torch.from_numpy(ids)


ANSWER_BYTES = 5


def recall_questions(
    texts: list[bytes], count: int, length: int, distance: int, facts: int = 1, seed: int = 2
) -> Tensor:
    """[count, 1 + length]: BOS, text with facts in it, a question about one of them, its answer (the last five bytes).

    `distance`: from the first byte of the value as stated to the first byte of the answer. The other facts lie anywhere
    before the question, none over another.
    """
    r = Random(f"recall {seed} {distance} {facts}")
    ids = np.full((count, length + 1), BOS, np.int64)
    for i in range(count):
        used: set[str] = set()
        lines = [(tasks.new_key(r, used), tasks.text_of(r, tasks.DIGITS, ANSWER_BYTES)) for _ in range(facts)]
        told = [tasks.statement(*line) for line in lines]
        asked = tasks.question(*lines[0])[:-2]
        size, end = len(told[0]), length - len(asked)
        start = length - ANSWER_BYTES - distance - (size - ANSWER_BYTES - 2)  # of the line that is asked for
        if start < 0 or start + size > end:
            raise ValueError(f"a distance of {distance} does not fit into {length} bytes")
        places = [start]
        while len(places) < facts:
            at = r.randrange(0, end - size + 1)
            if all(abs(at - other) >= size for other in places):
                places.append(at)
        text = bytearray(piece_of(r, texts, end))
        for at, line in zip(places, told):
            text[at : at + size] = line
        ids[i, 1:] = np.frombuffer(bytes(text) + asked, np.uint8)
    return torch.from_numpy(ids)
