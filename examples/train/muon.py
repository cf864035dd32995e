"""Muon (Jordan 2024): momentum whose matrix is made orthogonal, with weight decay apart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def orthogonal(g: Tensor, steps: int = 5) -> Tensor:
    """Nearly U V' of g = U S V': Newton-Schulz steps, which only multiply matrices. Works on stacks of matrices."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g / (g.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x


class Muon:
    """Matrices of one shape are worked on as one stack."""

    def __init__(
        self, params: Iterable[nn.Parameter], rate: float, weight_decay: float, momentum: float = 0.95
    ) -> None:
        self.groups: dict[tuple[int, ...], list[nn.Parameter]] = {}
        for p in params:
            self.groups.setdefault(tuple(p.shape), []).append(p)
        self.momenta = {s: torch.zeros(len(g), *s, device=g[0].device) for s, g in self.groups.items()}
        self.rate, self.weight_decay, self.momentum = rate, weight_decay, momentum

    @torch.no_grad()
    def step(self, scale: float) -> None:
        rate = self.rate * scale
        for shape, group in self.groups.items():
            gradient = torch.stack([p.grad for p in group])
            momentum = self.momenta[shape].lerp_(gradient, 1 - self.momentum)
            update = orthogonal(gradient.lerp(momentum, self.momentum))
            size = rate * max(1.0, shape[0] / shape[1]) ** 0.5
            for p, u in zip(group, update):
                p.mul_(1 - rate * self.weight_decay).add_(u, alpha=-size)

    def state_dict(self) -> dict[str, Any]:
        return {"momenta": self.momenta}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for shape, momentum in self.momenta.items():
            momentum.copy_(state["momenta"][shape])
