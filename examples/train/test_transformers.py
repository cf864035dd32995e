"""Loads an exported folder in Hugging Face transformers as it is: its logits must be those of model.py.

python test_transformers.py --model FOLDER
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from export import load_folder
from model import BOS, VOCAB

TOLERANCE = 1e-4  # logits in float32; the two add up in different orders


@torch.no_grad()
def main() -> int:
    here = Path(__file__).resolve().parent
    args = argparse.ArgumentParser(description="Compares logits of an exported folder with those of transformers.")
    args.add_argument("--model", default=str(here.parent / "data" / "demo_model"), help="the demo model unless given")
    folder = args.parse_args().model
    mine = load_folder(folder)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    config = AutoConfig.from_pretrained(folder)
    failures = 0

    def expect(what: str, good: bool) -> None:
        nonlocal failures
        failures += not good
        print(f"{'ok    ' if good else 'FAILED'}  {what}")

    expect(f"architecture is {type(theirs).__name__}", type(theirs).__name__ == "LlamaForCausalLM")
    expect(f"bos_token_id is {config.bos_token_id}", config.bos_token_id == BOS)
    stored = sum(p.numel() for p in mine.parameters())
    loaded = sum(p.numel() for p in theirs.parameters())
    expect(f"{loaded} parameters, {stored} here", loaded == stored)
    torch.manual_seed(0)
    for length in (1, 17, mine.config.context):
        tokens = torch.randint(0, VOCAB - 1, (2, length))
        tokens[:, 0] = BOS
        apart = (theirs(tokens).logits - mine(tokens)).abs().max().item()
        expect(f"logits of {length} tokens are {apart:.1e} apart", apart < TOLERANCE)
    size = (Path(folder) / "model.safetensors").stat().st_size
    expect(f"{size} bytes", size <= 4_000_000)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
