"""Trains the demo model from scratch on texts and the tasks of tasks.py.

    python train.py --texts TEXTS --out RUN [--seed N] [--tokens N]

RUN gets checkpoint.pt and log.jsonl. Started again with the same settings it goes on from the checkpoint, and ends with
the same weights as an uninterrupted run: the schedule counts tokens, and each batch depends on seed and step alone.
Ctrl-C and SIGTERM write a checkpoint and end with exit status 3.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from data import Batch, Mixture, Texts, batch, read_texts, recall_questions, validation_pieces
from evaluate import DISTANCES, bits_per_byte, recall, sinks
from model import Llama, ModelConfig
from muon import Muon

INTERRUPTED = 3


@dataclass(frozen=True)
class Settings:
    """Everything that the result depends on, but the texts and the machine's arithmetic."""

    seed: int = 1
    tokens: int = 24_000_000
    tokens_per_step: int = 8192
    stages: str = "128:0.15,256:0.4,512:0.7,1024:1"  # length : until this share of the tokens
    rate: float = 0.03  # Muon, the layers' matrices
    rate_others: float = 0.005  # AdamW, embedding, head and norms
    weight_decay: float = 0.1
    weight_decay_qk: float = 0.3  # q_proj, k_proj: keeps attention from becoming one-hot
    warmup_steps: int = 40
    cooldown: float = 0.4  # the last share of the tokens, with rates falling linearly to 0
    early: float = 0.35  # the first share of the tokens, with more copies and needles
    precision: str = "fp32"  # of the products: fp32 or bf16

    def __post_init__(self) -> None:
        if self.tokens < self.tokens_per_step or self.tokens_per_step < 1:
            raise ValueError(f"tokens must be at least tokens_per_step; got {self.tokens} and {self.tokens_per_step}")
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"precision must be fp32 or bf16; got {self.precision}")
        for name in ("cooldown", "early"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1; got {getattr(self, name)}")
        self.parsed_stages()

    def parsed_stages(self) -> list[tuple[int, float]]:
        try:
            pairs = [stage.split(":") for stage in self.stages.split(",")]
            stages = [(int(length), float(until)) for length, until in pairs]
        except ValueError:
            stages = []
        until = [u for _, u in stages]
        if not stages or until != sorted(until) or until[-1] != 1 or min(n for n, _ in stages) < 128:
            raise ValueError(
                "stages must be LENGTH:SHARE,... with lengths of at least 128 and shares that rise to 1; "
                f"got {self.stages}"
            )
        return stages

    def length_at(self, share: float) -> int:
        return next(length for length, until in self.parsed_stages() if share < until or until == 1)

    def rate_scale(self, step: int, share: float) -> float:
        return min(1.0, (step + 1) / self.warmup_steps) * min(1.0, (1 - share) / self.cooldown)


class Trainer:
    def __init__(self, settings: Settings, config: ModelConfig, mix: Mixture, device: str, compiled: bool) -> None:
        self.settings, self.config, self.mix, self.device = settings, config, mix, device
        torch.manual_seed(settings.seed)
        self.model = Llama(config).to(device)
        qk = {n: p for n, p in self.model.matrices().items() if "q_proj" in n or "k_proj" in n}
        rest = {n: p for n, p in self.model.matrices().items() if n not in qk}
        self.muons = [
            Muon(rest.values(), settings.rate, settings.weight_decay),
            Muon(qk.values(), settings.rate, settings.weight_decay_qk),
        ]
        self.others = list(self.model.others().values())
        self.adam = torch.optim.AdamW(
            self.others, lr=settings.rate_others, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0
        )
        self.run_model = self.model
        if compiled:  # block by block: the layers share the compiled code, one for each length
            torch._dynamo.config.cache_size_limit = 64
            for block in self.model.layers:
                block.compile(dynamic=False)
        self.step = 0
        self.tokens = 0

    def share(self) -> float:
        return self.tokens / self.settings.tokens

    def done(self) -> bool:
        return self.tokens >= self.settings.tokens

    def next_batch(self, texts: list[bytes]) -> Batch:
        s, share = self.settings, self.share()
        length = s.length_at(share)
        count = max(1, s.tokens_per_step // length)
        return batch(texts, s.seed, self.step, count, length, self.mix, share < s.early)

    def train_step(self, b: Batch) -> float:
        """Nats per byte, weighted."""
        s = self.settings
        weights = b.weights.to(self.device)
        with torch.autocast(self.device, torch.bfloat16, enabled=s.precision == "bf16"):
            logits = self.run_model(b.inputs.to(self.device))
        losses = F.cross_entropy(logits.flatten(0, 1).float(), b.targets.to(self.device).flatten(), reduction="none")
        loss = (losses * weights.flatten()).sum() / weights.sum()
        loss.backward()
        scale = s.rate_scale(self.step, self.share())
        torch.nn.utils.clip_grad_norm_(self.others, 1.0)
        for muon in self.muons:
            muon.step(scale)
        for group in self.adam.param_groups:
            group["lr"] = s.rate_others * scale
        self.adam.step()
        self.model.zero_grad(set_to_none=True)
        self.step += 1
        self.tokens += b.inputs.numel()
        return loss.item()

    def state(self) -> dict[str, Any]:
        return {
            "settings": asdict(self.settings),
            "model_config": asdict(self.config),
            "mixture": asdict(self.mix),
            "step": self.step,
            "tokens": self.tokens,  # with the step, all there is to know of the data: see data.batch()
            "model": self.model.state_dict(),
            "muons": [m.state_dict() for m in self.muons],
            "adam": self.adam.state_dict(),
            "torch_rng": torch.get_rng_state(),
        }

    def save(self, path: Path) -> None:
        """Whole or not at all."""
        part = path.with_suffix(".part")
        with open(part, "wb") as f:
            torch.save(self.state(), f)
            f.flush()
            os.fsync(f.fileno())
        os.replace(part, path)

    def resume(self, path: Path) -> None:
        state = torch.load(path, map_location="cpu", weights_only=True)
        mine = self.state()
        for part in ("settings", "model_config", "mixture"):
            for key, value in mine[part].items():
                if state[part].get(key) != value:
                    raise ValueError(
                        f"{path}: was made with {key} = {state[part].get(key)}, this run has {value}; "
                        "give the same, or another --out"
                    )
        self.model.load_state_dict(state["model"])
        for muon, saved in zip(self.muons, state["muons"]):
            muon.load_state_dict(saved)
        self.adam.load_state_dict(state["adam"])
        torch.set_rng_state(state["torch_rng"])
        self.step, self.tokens = state["step"], state["tokens"]


def check(trainer: Trainer, texts: Texts) -> dict[str, Any]:
    """A quick look, at the length trained now; evaluate.py looks properly."""
    length = trainer.settings.length_at(min(trainer.share(), 1.0))
    model = Llama(trainer.config).to(trainer.device).eval()  # a copy that is not compiled
    model.load_state_dict(trainer.model.state_dict())
    pieces = validation_pieces(texts.valid, 24 * 1024 // length, length).to(trainer.device)
    found: dict[str, Any] = {"length": length, "bits_per_byte": round(bits_per_byte(model, pieces)[0], 4)}
    for distance in DISTANCES:
        if distance + 32 <= length:
            questions = recall_questions(texts.valid, 32, length, distance).to(trainer.device)
            found[f"recall_{distance}"] = recall(model, questions) / len(questions)
    late = sinks(model, pieces[:4]).late
    found["sink"] = [[round(x, 3) for x in layer] for layer in late]
    return found


class Log:
    """log.jsonl, without what a run wrote after the checkpoint that is resumed."""

    def __init__(self, path: Path, tokens: int) -> None:
        kept = []
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if json.loads(line)["tokens"] <= tokens]
        path.write_text("".join(line + "\n" for line in kept))
        self.path = path

    def write(self, entry: dict[str, Any]) -> None:
        with open(self.path, "a") as f:
            f.write(json.dumps(entry) + "\n")


class Progress:
    """On a terminal one line that is rewritten, else a line a minute."""

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty()
        self.since = self.shown = time.monotonic()
        self.tokens = 0
        self.loss = 0.0
        self.steps = 0

    def tell(self, trainer: Trainer, length: int, loss: float, tokens: int) -> None:
        self.tokens += tokens
        self.loss += loss
        self.steps += 1
        now = time.monotonic()
        if now - self.shown < (1 if self.terminal else 60):
            return
        line = (
            f"{100 * trainer.share():5.1f} %  step {trainer.step}  length {length}  "
            f"loss {self.loss / self.steps / math.log(2):.3f} bits  {self.tokens / (now - self.since):.0f} tokens/s"
        )
        print(
            f"\r{line}\033[K" if self.terminal else line, end="" if self.terminal else "\n", file=sys.stderr, flush=True
        )
        self.shown = now
        if not self.terminal:
            self.since, self.tokens, self.loss, self.steps = now, 0, 0.0, 0

    def say(self, line: str) -> None:
        print(f"\r{line}\033[K" if self.terminal else line, file=sys.stderr, flush=True)


def train(trainer: Trainer, texts: Texts, out: Path, save_every: int, check_every: int) -> int:
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    progress = Progress()
    if checkpoint.exists():
        trainer.resume(checkpoint)
        progress.say(f"resumed {checkpoint} after {trainer.tokens} tokens")
    log = Log(out / "log.jsonl", trainer.tokens)
    if trainer.step == 0:
        log.write(
            {"tokens": 0, **{k: v for k, v in trainer.state().items() if k in ("settings", "model_config", "mixture")}}
        )

    stopped: list[int] = []
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda number, _: stopped.append(number))

    while not trainer.done():
        if stopped:
            trainer.save(checkpoint)
            progress.say(f"stopped after {trainer.tokens} tokens; the same command goes on from {checkpoint}")
            return INTERRUPTED
        before = trainer.tokens
        b = trainer.next_batch(texts.train)
        loss = trainer.train_step(b)
        if not math.isfinite(loss):
            raise ValueError(f"the loss at step {trainer.step} is {loss}; a lower rate would be right")
        progress.tell(trainer, b.inputs.shape[1], loss, b.inputs.numel())

        def due(every: int) -> bool:
            return trainer.tokens // every != before // every

        if due(check_every) or trainer.done():
            found = {"tokens": trainer.tokens, "step": trainer.step, **check(trainer, texts)}
            log.write(found)
            progress.say(json.dumps(found))
        if due(save_every) or trainer.done():
            trainer.save(checkpoint)
    progress.say(f"done after {trainer.tokens} tokens: {checkpoint}")
    return 0


def parse() -> argparse.Namespace:
    args = argparse.ArgumentParser(description="Trains the demo model on texts and generated tasks.")
    args.add_argument("--texts", required=True, help="folder of .txt files, or of two folders of them, train and valid")
    args.add_argument("--out", required=True, help="folder of this run: checkpoint and log")
    args.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="auto: cuda where there is one")
    args.add_argument("--threads", type=int, default=0, help="0: as many as PyTorch likes")
    args.add_argument("--eager", action="store_true", help="no torch.compile, which needs a C++ compiler")
    args.add_argument("--save-every", type=int, default=500_000, help="tokens from one checkpoint to the next")
    args.add_argument(
        "--check-every", type=int, default=1_000_000, help="tokens from one look at validation to the next"
    )
    for kind in (Settings, ModelConfig, Mixture):
        group = args.add_argument_group(kind.__name__)
        for f in fields(kind):
            group.add_argument(
                f"--{f.name.replace('_', '-')}",
                type=type(f.default),
                default=f.default,
                help=f"{f.default} unless given",
            )
    return args.parse_args()


def main() -> int:
    a = parse()
    if a.threads > 0:
        torch.set_num_threads(a.threads)

    def from_arguments(kind: type) -> Any:
        return kind(**{f.name: getattr(a, f.name) for f in fields(kind)})

    try:
        if min(a.save_every, a.check_every) < 1:
            raise ValueError(
                f"--save-every and --check-every must be at least 1; got {a.save_every} and {a.check_every}"
            )
        settings, config = from_arguments(Settings), from_arguments(ModelConfig)
        if (longest := max(length for length, _ in settings.parsed_stages())) > config.context:
            raise ValueError(f"--stages has a length of {longest}; the context is {config.context}")
        device = a.device if a.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        trainer = Trainer(settings, config, from_arguments(Mixture), device, not a.eager)
        return train(trainer, read_texts(a.texts), Path(a.out), a.save_every, a.check_every)
    except (OSError, ValueError) as e:
        print(f"train.py: {e}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
