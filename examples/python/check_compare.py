"""Checks `compare` on a real model against its rules written down once more, in NumPy and with nothing compacted: all keys
and values stay where they are, and a mask says which of them a policy has kept.

    inspect --model M.gguf --tokenize book.txt --out book.tokens
    compare --model M.gguf --text book.tokens --tokens 1024 --window 1024 --policies window+4,tova,h2o --budgets 128,512 \
        --json found.json
    python3 check_compare.py M.gguf book.tokens found.json

M.gguf is of architecture llama; the packages numpy and gguf (which dequantises) are needed. Prints both losses of each
policy over the first window, and exits with 1 where they are more than 1e-4 nats apart."""

import json
import sys

import gguf
import numpy as np

TOLERANCE = 1e-4  # nats per token


class Model:
    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        said = {name: field.contents() for name, field in reader.fields.items()}
        assert said["general.architecture"] == "llama", "only llama models are read here"
        assert "llama.rope.scaling.type" not in said, "angles are those of plain RoPE here"
        self.layers = said["llama.block_count"]
        self.heads, self.kv_heads = said["llama.attention.head_count"], said["llama.attention.head_count_kv"]
        self.eps, self.base = said["llama.attention.layer_norm_rms_epsilon"], said["llama.rope.freq_base"]
        self.tensors = {t.name: t for t in reader.tensors}
        self.d = said["llama.embedding_length"] // self.heads
        self.kept = {}

    def __call__(self, name):
        if name not in self.kept:
            t = self.tensors[name]
            self.kept[name] = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
        return self.kept[name]

    def norm(self, x, name):
        return x / np.sqrt(np.mean(x.astype(np.float64) ** 2, -1, keepdims=True) + self.eps).astype(np.float32) * self(name)

    def rotate(self, x):
        """[T][heads][d], whose pairs (2i, 2i + 1) turn, as llama.cpp stores them."""
        angles = np.arange(len(x))[:, None] * self.base ** (-np.arange(0, self.d, 2) / self.d)
        cos, sin = (f(angles)[:, None].astype(np.float32) for f in (np.cos, np.sin))
        out = np.empty_like(x)
        out[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
        out[..., 1::2] = x[..., 0::2] * sin + x[..., 1::2] * cos
        return out

    def nll(self, tokens, policy, budget, first):
        """Mean loss of tokens[first + 1:], each layer's attention restricted to what the policy kept."""
        x = self("token_embd.weight")[tokens[:-1]]
        T = len(x)
        for layer in range(self.layers):
            w = lambda name: self(f"blk.{layer}.{name}.weight")
            n = self.norm(x, f"blk.{layer}.attn_norm.weight")
            q = self.rotate((n @ w("attn_q").T).reshape(T, self.heads, self.d))
            k = self.rotate((n @ w("attn_k").T).reshape(T, self.kv_heads, self.d))
            v = (n @ w("attn_v").T).reshape(T, self.kv_heads, self.d)
            x = x + attend(q, k, v, policy, budget).reshape(T, -1) @ w("attn_output").T
            n = self.norm(x, f"blk.{layer}.ffn_norm.weight")
            gate = n @ w("ffn_gate").T
            x = x + (gate / (1 + np.exp(-gate)) * (n @ w("ffn_up").T)) @ w("ffn_down").T
        head = "output.weight" if "output.weight" in self.tensors else "token_embd.weight"
        logits = (self.norm(x[first:], "output_norm.weight") @ self(head).T).astype(np.float64)
        logits -= logits.max(-1, keepdims=True)
        return np.mean(np.log(np.exp(logits).sum(-1)) - logits[np.arange(T - first), tokens[first + 1 :]])


def attend(q, k, v, policy, budget):
    """[T][H][d]: token by token; after each one the policy drops a state where it holds more than its budget."""
    T, heads, d = q.shape
    kv_heads = k.shape[1]
    q = q.reshape(T, kv_heads, heads // kv_heads, d) / np.float32(np.sqrt(d))
    k, v = k.transpose(1, 2, 0), v.transpose(1, 0, 2)
    kept = np.zeros((kv_heads, T), bool)
    seen = np.zeros((kv_heads, T))  # attention that a state has got so far
    out = np.empty_like(q)
    for t in range(T):
        kept[:, t] = True
        logits = np.where(kept[:, None, : t + 1], q[t] @ k[:, :, : t + 1], -np.inf)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        out[t] = weights @ v[:, : t + 1]
        seen[:, : t + 1] += weights.sum(1)
        if budget is None or t < budget:  # all heads hold equally many
            continue
        if policy == "window+4":  # the oldest one behind the first four
            kept[:, t - budget + 4] = False
        elif policy == "tova":  # of a layer, what the newest query attends least
            worth = np.where(kept[0, : t + 1], weights.sum((0, 1)), np.inf)
            kept[:, worth.argmin()] = False
        elif policy == "h2o":  # of each head, but the newer half, what got the least attention so far
            for h in range(kv_heads):
                held = np.flatnonzero(kept[h])
                old = held[: len(held) - (budget - budget // 2)]
                kept[h, old[seen[h, old].argmin()]] = False
        else:
            sys.exit(f"no rule for {policy} here")
    return out


def main():
    model_path, tokens_path, report_path = sys.argv[1:]
    report = json.load(open(report_path))
    window = report["windows"][0]
    assert report["bos"] is None and report["chunk"] == 1 and len(report["windows"]) == 1, "one window, without BOS, token by token"
    first = window["first_token"]
    tokens = np.fromfile(tokens_path, "<i4")[first : first + window["queries"] + 1]
    model = Model(model_path)
    worst = 0
    for row in report["rows"]:
        nll = model.nll(tokens, row["policy"], row["budget"], window["scored_from"])
        worst = max(worst, abs(nll - row["nll"]))
        print(f"{row['policy']:10} k = {row['budget'] or 'all':>4}   compare {row['nll']:.6f}   here {nll:.6f}   {nll - row['nll']:+.1e}", flush=True)
    sys.exit(f"{worst:.1e} nats apart" if worst > TOLERANCE else 0)


main()
