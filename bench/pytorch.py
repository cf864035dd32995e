"""PyTorch's attention on the CPU, alone and with TOVA written in tensors, against ours in the same run.

bench/pytorch [--build FOLDER] [--quick]
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
KV_HEADS, GROUP, D = 8, 4, 128
COLD_BYTES = 128 << 20  # as in the C++ benchmarks: states of so many layers are visited in turn
FORMATS = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


class Layers:
    """Keys and values of enough layers to be cold, [1][kv_head][n][d]."""

    def __init__(self, dtype, n):
        count = max(1, -(-COLD_BYTES // (2 * KV_HEADS * n * D * dtype.itemsize)))
        self.states = [[torch.randn(1, KV_HEADS, n, D).to(dtype) for _ in range(2)] for _ in range(count)]
        self.q = torch.randn(1, KV_HEADS * GROUP, 1, D).to(dtype)
        self.new = torch.randn(1, KV_HEADS, D).to(dtype)
        self.drop = [0] * count

    # One query has no mask: the query heads of a group may stand as four queries of one head, which saves copies of keys and values.
    def grouped(self, layer):
        k, v = self.states[layer]
        return F.scaled_dot_product_attention(self.q.view(1, KV_HEADS, GROUP, D), k, v)

    def by_head(self, layer):
        k, v = self.states[layer]
        return F.scaled_dot_product_attention(self.q, k, v, enable_gqa=True)

    def tova(self, layer):
        """A whole step: the new state goes where the last one was dropped, attention, the row, whom to drop next."""
        k, v = self.states[layer]
        k[:, :, self.drop[layer]] = self.new
        v[:, :, self.drop[layer]] = self.new
        q = self.q.view(1, KV_HEADS, GROUP, D)
        out = F.scaled_dot_product_attention(q, k, v)
        row = torch.softmax(torch.matmul(q, k.transpose(2, 3)).float() * D**-0.5, dim=-1).mean(dim=(0, 1, 2))
        self.drop[layer] = int(row.argmin())
        return out


def microseconds(layers, step, rounds):
    """Of one layer, for each round over all of them."""
    count = len(layers.states)
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        for layer in range(count):
            step(layer)
        times.append((time.perf_counter() - begin) / count * 1e6)
    return times


def ours(program, form, n, threads):
    """Median times in us: attention alone, and with TOVA."""
    digit = "" if threads == 1 else str(threads)
    names = [f"decode{digit}/{form}/n:{n}/heads:{KV_HEADS}x{GROUP}/d:{D}", f"policy{digit}/tova/{form}/layer/n:{n}/heads:{KV_HEADS}x{GROUP}/d:{D}"]
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out.json"
        done = subprocess.run(
            [str(program), f"--benchmark_filter=^({'|'.join(names)})/", f"--benchmark_out={out}", "--benchmark_out_format=json"], capture_output=True, text=True
        )
        if done.returncode != 0:
            sys.exit(f"pytorch: {program.name} ended with status {done.returncode}")
        found = {b["name"].split("/iterations")[0]: b["time_us"] for b in json.loads(out.read_text())["benchmarks"]}
    if set(found) != set(names):
        sys.exit(f"pytorch: {program} has no {' or '.join(set(names) - set(found))}")
    return found[names[0]], found[names[1]]


def main():
    parser = argparse.ArgumentParser(prog="bench/pytorch", description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=ROOT / "build/bench", type=pathlib.Path, metavar="FOLDER", help="where attention_bench was built (build/bench)")
    parser.add_argument("--quick", action="store_true", help="one thread and n = 512 only")
    options = parser.parse_args()
    program = options.build / "bin/attention_bench"
    if not program.is_file():
        sys.exit(f"pytorch: {program} is not there; build it first (scripts/bench)")

    torch.manual_seed(1)
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}; {KV_HEADS} x {GROUP} heads, d = {D}; us per layer, states cold\n")
    print(f"{'':24}{'attention alone':^30}  {'with TOVA':^30}")
    print(f"{'format':>8}{'n':>7}{'threads':>9}{'torch':>10}{'ours':>10}{'ratio':>10}  {'torch':>10}{'ours':>10}{'ratio':>10}", flush=True)
    for threads in [1] if options.quick else [1, 2]:
        torch.set_num_threads(threads)
        for n in [512] if options.quick else [512, 2048, 8192]:
            for form, dtype in FORMATS.items():
                layers = Layers(dtype, n)
                steps = [layers.grouped, layers.by_head, layers.tova]
                times = [[], [], []]
                with torch.inference_mode():
                    for step in steps:
                        microseconds(layers, step, 1)
                    for half in range(2):  # around ours, since the machine changes its pace
                        for step, list_of in zip(steps, times):
                            list_of += microseconds(layers, step, 4)
                        if half == 0:
                            alone, deciding = ours(program, form, n, threads)
                torch_alone = min(statistics.median(times[0]), statistics.median(times[1]))
                torch_deciding = statistics.median(times[2])
                print(
                    f"{form:>8}{n:>7}{threads:>9}{torch_alone:>10.0f}{alone:>10.0f}{torch_alone / alone:>10.2f}  {torch_deciding:>10.0f}{deciding:>10.0f}{torch_deciding / deciding:>10.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
