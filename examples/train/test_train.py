"""A run that is stopped and goes on must end with the weights of an uninterrupted one, bit for bit.

python test_train.py
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from random import Random

import torch

import data
import tasks
from train import INTERRUPTED, Settings

HERE = Path(__file__).resolve().parent
SMALL = (
    "--seed 3 --tokens 60000 --tokens-per-step 1024 --stages 128:0.5,256:1 --width 32 --layers 2 --heads 2 "
    "--kv-heads 1 --head-dim 16 --ffn 64 --context 256 --threads 1 --eager --device cpu --save-every 10000 --check-every 20000"
).split()


def write_texts(folder: Path) -> None:
    r = Random(5)
    words = ["".join(r.choice("aeioustrnl") for _ in range(r.randint(1, 7))) for _ in range(200)]
    for name in ("one", "two"):
        text = " ".join(r.choice(words) for _ in range(30_000))
        (folder / f"{name}.txt").write_text(text)


class Train(unittest.TestCase):
    def setUp(self) -> None:
        keep = tempfile.TemporaryDirectory()
        self.addCleanup(keep.cleanup)
        self.folder = Path(keep.name)
        write_texts(self.folder)

    def start(self, out: str, *more: str) -> subprocess.Popen[str]:
        call = [sys.executable, str(HERE / "train.py"), "--texts", str(self.folder), "--out", str(self.folder / out)]
        return subprocess.Popen([*call, *SMALL, *more], stderr=subprocess.PIPE, text=True)

    def finish(self, out: str, *more: str) -> tuple[int, str]:
        run = self.start(out, *more)
        said = run.communicate(timeout=300)[1]
        return run.returncode, said

    def test_resumed_equals_uninterrupted(self) -> None:
        self.assertEqual(self.finish("whole")[0], 0)
        run = self.start("parts")
        while not (self.folder / "parts" / "checkpoint.pt").exists():
            self.assertIsNone(run.poll())
            time.sleep(0.01)
        run.send_signal(signal.SIGTERM)
        said = run.communicate(timeout=60)[1]
        self.assertEqual(run.returncode, INTERRUPTED, said)
        stopped_at = torch.load(self.folder / "parts" / "checkpoint.pt", weights_only=True)["tokens"]
        self.assertLess(stopped_at, 60_000)
        status, said = self.finish("parts")
        self.assertEqual(status, 0, said)
        self.assertIn(f"resumed {self.folder}/parts/checkpoint.pt after {stopped_at} tokens", said)
        whole, parts = (
            torch.load(self.folder / run / "checkpoint.pt", weights_only=True) for run in ("whole", "parts")
        )
        for name, weights in whole["model"].items():
            self.assertTrue(torch.equal(weights, parts["model"][name]), name)
        logs = [(self.folder / run / "log.jsonl").read_text() for run in ("whole", "parts")]
        self.assertEqual(*logs)
        checks = [json.loads(line) for line in logs[0].splitlines()][1:]
        self.assertLess(checks[-1]["bits_per_byte"], 4.0)  # it learned something: log2(257) is 8

    def test_other_settings_are_refused(self) -> None:
        self.assertEqual(self.finish("run")[0], 0)
        status, said = self.finish("run", "--rate", "0.5")
        self.assertEqual(status, 2)
        self.assertIn("was made with rate = 0.03, this run has 0.5", said)

    def test_bad_settings_are_refused(self) -> None:
        for more in (["--stages", "256:0.5,128:0.9"], ["--heads", "3", "--kv-heads", "2"], ["--context", "128"]):
            status, said = self.finish("bad", *more)
            self.assertEqual(status, 2, said)
            self.assertEqual(len(said.splitlines()), 1, said)


class Data(unittest.TestCase):
    def setUp(self) -> None:
        r = Random(1)
        self.texts = ["".join(r.choice("abc de. FGH") for _ in range(9000)).encode()]

    def test_a_batch_is_a_function_of_its_arguments(self) -> None:
        def make(step: int) -> data.Batch:
            return data.batch(self.texts, 1, step, 4, 256, data.Mixture(), True)

        a, b, c = make(7), make(7), make(8)
        self.assertTrue(torch.equal(a.inputs, b.inputs) and torch.equal(a.weights, b.weights))
        self.assertFalse(torch.equal(a.inputs, c.inputs))
        self.assertTrue(torch.equal(a.inputs[:, 1:], a.targets[:, :-1]))
        self.assertTrue((a.inputs[:, 0] == data.BOS).all())

    def test_answers_weigh_and_stated_values_do_not(self) -> None:
        for n in range(300):
            r = Random(n)
            text, weights = tasks.weave(b"word " * 300, tasks.needles(r, 1024, 3.0), 1024)
            self.assertEqual((len(text), len(weights)), (1024, 1024))
            for mark, weight in (b"\n#", 0.0), (b"\n?", 3.0):
                at = text.find(mark)
                if 0 <= at < 1000 and text[at + 5 : at + 6] == b"=":
                    self.assertEqual(weights[at + 6 : at + 10], [weight] * 4)

    def test_a_question_is_about_its_fact(self) -> None:
        for distance, facts in ((64, 1), (450, 8), (900, 4)):
            for row in data.recall_questions(self.texts, 50, 1024, distance, facts):
                text = bytes(row[1:].tolist())
                key, value = text[-9:-6], text[-5:]
                self.assertEqual(text.count(b"#" + key + b"=" + value + b";"), 1)
                self.assertEqual(text.find(b"#" + key) + 5, len(text) - 5 - distance)
                self.assertEqual(text.count(b"\n#"), facts)

    def test_the_schedule(self) -> None:
        s = Settings(tokens=1_000_000, stages="128:0.25,256:1", warmup_steps=4, cooldown=0.5)
        self.assertEqual([s.length_at(x) for x in (0.0, 0.24, 0.25, 0.99, 1.0)], [128, 128, 256, 256, 256])
        self.assertEqual(s.rate_scale(0, 0.0), 0.25)
        self.assertEqual(s.rate_scale(100, 0.4), 1.0)
        self.assertAlmostEqual(s.rate_scale(100, 0.75), 0.5)


if __name__ == "__main__":
    unittest.main()
