"""A plain Llama: RMS norm, rotary positions, grouped queries, SwiGLU, no biases. Names follow Hugging Face's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BOS = 256  # opens every sequence; bytes are their own ids
VOCAB = 257


@dataclass(frozen=True)
class ModelConfig:
    """The shape of the model; defaults are the demo model's."""

    width: int = 128
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    ffn: int = 384
    context: int = 1024
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "kv_heads", "head_dim", "ffn", "context"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads must divide heads = {self.heads}; got {self.kv_heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim must be even for rotary positions; got {self.head_dim}")

    def to_hugging_face(self) -> dict[str, Any]:
        """What config.json of the exported folder says."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": VOCAB,
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.ffn,
            "hidden_act": "silu",
            "max_position_embeddings": self.context,
            "rms_norm_eps": self.norm_eps,
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": False,
            "attention_bias": False,
            "mlp_bias": False,
            "bos_token_id": BOS,
            "eos_token_id": None,
            "torch_dtype": "float16",
            "initializer_range": 0.02,
            "use_cache": True,
        }

    @staticmethod
    def from_hugging_face(config: dict[str, Any]) -> ModelConfig:
        """Of config.json of a byte-level Llama."""
        if config.get("model_type") != "llama" or config.get("vocab_size") != VOCAB:
            raise ValueError(
                f"needs model_type llama and vocab_size {VOCAB}; got "
                f"{config.get('model_type')} and {config.get('vocab_size')}"
            )
        heads, width = config["num_attention_heads"], config["hidden_size"]
        return ModelConfig(
            width=width,
            layers=config["num_hidden_layers"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads", heads),
            head_dim=config.get("head_dim", width // heads),
            ffn=config["intermediate_size"],
            context=config["max_position_embeddings"],
            rope_theta=config.get("rope_theta", 10000.0),
            norm_eps=config["rms_norm_eps"],
        )


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def rotary_angles(positions: Tensor, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines [positions, head_dim]; both halves of a head turn by the same angles."""
    pair = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=positions.device)
    angles = torch.outer(positions.float(), 1.0 / config.rope_theta ** (pair / config.head_dim))
    angles = torch.cat([angles, angles], -1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


class Attention(nn.Module):
    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.c = c
        self.q_proj = nn.Linear(c.width, c.heads * c.head_dim, bias=False)
        self.k_proj = nn.Linear(c.width, c.kv_heads * c.head_dim, bias=False)
        self.v_proj = nn.Linear(c.width, c.kv_heads * c.head_dim, bias=False)
        self.o_proj = nn.Linear(c.heads * c.head_dim, c.width, bias=False)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [batch, heads, tokens, head_dim] and keys, values [batch, kv_heads, ...], not rotated."""

        def split(y: Tensor, heads: int) -> Tensor:
            return y.view(*y.shape[:2], heads, self.c.head_dim).transpose(1, 2)

        return (
            split(self.q_proj(x), self.c.heads),
            split(self.k_proj(x), self.c.kv_heads),
            split(self.v_proj(x), self.c.kv_heads),
        )

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q, k, v = self.project(x)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        group = self.c.heads // self.c.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(c.width, c.ffn, bias=False)
        self.up_proj = nn.Linear(c.width, c.ffn, bias=False)
        self.down_proj = nn.Linear(c.ffn, c.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(c.width, c.norm_eps)
        self.self_attn = Attention(c)
        self.post_attention_layernorm = RMSNorm(c.width, c.norm_eps)
        self.mlp = FeedForward(c)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(VOCAB, config.width)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, config.norm_eps)
        self.lm_head = nn.Linear(config.width, VOCAB, bias=False)
        cos, sin = rotary_angles(torch.arange(config.context), config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                nn.init.normal_(p, 0.0, self._spread(name, p))

    def _spread(self, name: str, p: Tensor) -> float:
        if "embed_tokens" in name or "lm_head" in name:
            return 0.02
        if "o_proj" in name or "down_proj" in name:  # what is added to the residual starts small, deep models too
            return (2 * self.config.layers * p.shape[1]) ** -0.5
        return self.config.width**-0.5

    def matrices(self) -> dict[str, nn.Parameter]:
        """The layers' matrices: what Muon trains."""
        return {n: p for n, p in self.named_parameters() if n.startswith("layers.") and p.ndim == 2}

    def others(self) -> dict[str, nn.Parameter]:
        """Embedding, head and norms."""
        mine = self.matrices()
        return {n: p for n, p in self.named_parameters() if n not in mine}

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [batch, tokens, vocabulary]."""
        length = tokens.shape[1]
        if length > self.config.context:
            raise ValueError(f"at most {self.config.context} tokens fit the context; got {length}")
        x = self.embed_tokens(tokens)
        cos, sin = self.cos[:length], self.sin[:length]
        for block in self.layers:
            x = block(x, cos, sin)
        return self.lm_head(self.norm(x))

    @torch.no_grad()
    def attention_rows(self, tokens: Tensor) -> list[Tensor]:
        """Every layer's softmax rows [batch, heads, query, key]."""
        length = tokens.shape[1]
        x = self.embed_tokens(tokens)
        cos, sin = self.cos[:length], self.sin[:length]
        future = torch.full((length, length), float("-inf"), device=tokens.device).triu(1)
        rows = []
        for block in self.layers:
            q, k, _ = block.self_attn.project(block.input_layernorm(x))
            k = rotate(k, cos, sin).repeat_interleave(self.config.heads // self.config.kv_heads, 1)
            scores = rotate(q, cos, sin) @ k.mT / self.config.head_dim**0.5
            rows.append((scores + future).softmax(-1))
            x = block.forward(x, cos, sin)
        return rows
