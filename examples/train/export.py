"""Writes a checkpoint of train.py as a Hugging Face folder: config.json and model.safetensors (fp16).

python export.py --run RUN --out FOLDER
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from model import Llama, ModelConfig


def hugging_face_name(name: str) -> str:
    return name if name.startswith("lm_head") else f"model.{name}"


def save_folder(model: Llama, folder: str | Path) -> int:
    """Returns the number of parameters."""
    folder = Path(folder)
    tensors = {}
    for name, p in sorted(model.named_parameters()):
        half = p.detach().to("cpu", torch.float16).contiguous()
        if not half.isfinite().all():
            raise ValueError(f"{name}: its largest value, {p.abs().max().item():g}, does not fit fp16")
        tensors[hugging_face_name(name)] = half
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(model.config.to_hugging_face(), indent=2) + "\n")
    return sum(t.numel() for t in tensors.values())


def load_folder(folder: str | Path) -> Llama:
    """In float32, for evaluation."""
    folder = Path(folder)
    try:
        config = ModelConfig.from_hugging_face(json.loads((folder / "config.json").read_text()))
    except (KeyError, ValueError) as e:
        raise ValueError(f"{folder / 'config.json'}: {e}") from e
    model = Llama(config)
    weights = load_file(folder / "model.safetensors")
    model.load_state_dict({name: weights[hugging_face_name(name)].float() for name in model.state_dict()})
    return model.eval()


def main() -> int:
    args = argparse.ArgumentParser(description="Writes a checkpoint as a Hugging Face folder in fp16.")
    args.add_argument("--run", required=True, help="the --out folder of train.py")
    args.add_argument("--out", required=True, help="folder to write")
    a = args.parse_args()
    try:
        state = torch.load(Path(a.run) / "checkpoint.pt", map_location="cpu", weights_only=True)
        model = Llama(ModelConfig(**state["model_config"]))
        model.load_state_dict(state["model"])
        parameters = save_folder(model, a.out)
    except (OSError, ValueError) as e:
        print(f"export.py: {e}", file=sys.stderr)
        return 2
    size = (Path(a.out) / "model.safetensors").stat().st_size
    print(
        f"{a.out}: {parameters} parameters, {size} bytes, "
        f"after {state['tokens']} tokens of {state['settings']['tokens']}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
