"""Tasks that are woven into the texts, so that a small model learns to look back.

needle  "\n#QXV=48213;\n" states a fact, "\n?QXV=48213;\n" asks for it later; "\n?QXV;\n" before says it will be asked
copy    "\n*s;\n" twice: a random string, or a piece of text
name    a made-up name in the place of one that the piece of text uses more than once
prose   facts in sentences: "Zorvek lived in Tamuro." ... "Where does Zorvek live?" asked Anna. "In Tamuro," said John.

What nobody could know (a value that is stated, which key is asked) carries no loss; answers weigh more.
Everything is drawn from the random generator that is handed in.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DIGITS = "0123456789"
LETTERS_AND_DIGITS = "abcdefghijklmnopqrstuvwxyz" + DIGITS
CONSONANTS, VOWELS = "bcdfghjklmnprstvwz", "aeiou"
REPEATED_NAME = re.compile(rb"(?<=[a-z,;] )[A-Z][a-z]{2,}")

Piece = Callable[[int], bytes]  # so many bytes of text


@dataclass
class Insert:
    """Bytes that go in at about `at`, behind the next `behind`, and the weight of each in the loss."""

    at: int
    text: bytes
    weights: list[float]
    behind: bytes = b" "


def text_of(r: Random, letters: str, length: int) -> str:
    return "".join(r.choice(letters) for _ in range(length))


def made_up_name(r: Random) -> str:
    """4 to 7 letters, consonants and vowels in turn."""
    name = "".join(r.choice(CONSONANTS) + r.choice(VOWELS) for _ in range(r.randint(2, 3)))
    return name.capitalize() + r.choice(["", "", r.choice("nrlsk")])


def distance(r: Random, least: int, most: int) -> int:
    """Evenly over the scales half of the time, else evenly: near ones are learned first, far ones are many."""
    most = max(least + 1, most)
    if r.random() < 0.5:
        return int(math.exp(r.uniform(math.log(least), math.log(most))))
    return r.randrange(least, most)


# Needles


def new_key(r: Random, used: set[str]) -> str:
    while True:
        key = text_of(r, CAPITALS, 3)
        if key not in used:
            used.add(key)
            return key


def statement(key: str, value: str) -> bytes:
    return f"\n#{key}={value};\n".encode()


def question(key: str, value: str) -> bytes:
    """With its answer; ask with value "" and without the last two bytes."""
    return f"\n?{key}={value};\n".encode()


def announcement(key: str) -> bytes:
    return f"\n?{key};\n".encode()


def needles(r: Random, length: int, answer_weight: float) -> list[Insert]:
    """Some facts, each asked one to three times; a few are announced."""
    used: set[str] = set()
    inserts = []
    room = length // 2
    for _ in range(r.choice((1, 1, 2, 3, 4, 6, 8, 10)) if length >= 512 else r.choice((1, 2, 3))):
        key, value = new_key(r, used), text_of(r, DIGITS, r.randint(4, 6))
        at = r.randrange(0, length - 48)
        told = statement(key, value)
        if room < 3 * len(told):
            break
        room -= len(told)
        inserts.append(Insert(at, told, [1, 1, 0, 0, 0, 1] + [0] * len(value) + [1, 1]))
        if r.random() < 0.15 and at > 24:
            inserts.append(Insert(r.randrange(0, at), announcement(key), [1, 1, 0, 0, 0, 1, 1]))
        for _ in range(r.choice((1, 1, 2, 3))):
            away, asked = distance(r, 8, length - at), question(key, value)
            if at + away < length - 16 and room > len(asked):
                room -= len(asked)
                weights = [1, 1, 0, 0, 0, 1] + [answer_weight] * len(value) + [1, 1]
                inserts.append(Insert(at + away, asked, weights))
    return inserts


# Copies


def copies(r: Random, length: int, piece: Piece) -> list[Insert]:
    inserts = []
    room = length // 2
    for _ in range(r.choice((1, 1, 2))):
        n = min(r.randint(12, 48), room // 2)
        if n < 8:
            break
        room -= 2 * n
        random_string = r.random() < 0.7
        what = text_of(r, LETTERS_AND_DIGITS, n).encode() if random_string else piece(n)
        line, first = b"\n*" + what + b";\n", 0.0 if random_string else 1.0
        at = r.randrange(0, length - 2 * n - 8)
        inserts.append(Insert(at, line, [1, 1] + [first] * n + [1, 1]))
        again = [1, 1] + [first] * 2 + [1.0] * (n - 2) + [1, 1]
        inserts.append(Insert(r.randrange(at, length - n - 4), line, again))
    return inserts


# Names


def rename(r: Random, text: bytes) -> bytes:
    """The text with one or two of the names it uses more than once replaced by made-up ones."""
    count: dict[bytes, int] = {}
    for name in REPEATED_NAME.findall(text):
        count[name] = count.get(name, 0) + 1
    names = [name for name, times in count.items() if times > 1]
    for name in r.sample(names, min(len(names), 2)):
        text = re.sub(rb"\b" + name + rb"\b", made_up_name(r).encode(), text)
    return text


# Facts in prose

ADJECTIVES = (
    "silver golden broken little yellow wooden leather crooked painted hollow heavy woollen velvet copper faded "
    "rusty slender polished brass marble scarlet purple double foreign hidden carved"
).split()
NOUNS = (
    "lantern violin basket hammer mirror kettle saddle ribbon whistle candle needle trunk pistol compass bottle "
    "feather bonnet thimble locket drum ladder kite wagon goblet button spoon"
).split()
COUNTED = "sheep horses barrels acres books coins ships cattle trees bricks candles soldiers".split()
RELATIVES = "brother sister cousin uncle teacher servant doctor neighbour master friend".split()
PEOPLE = "Mary John Anna Tom Jane Henry Alice Peter Martha George Ellen Robert Sarah William Emma Charles".split()
WHEN = ["", "", "", "In the evening ", "After a while ", "Once more ", "At last ", "Then ", "The next day "]

# kind: how it is told, mentioned, asked. {n} who, {v} the value, {x} what is counted or which relative,
# {o} who asks, {p} who answers, {w} when
PROSE: dict[str, tuple[list[str], list[str], list[str]]] = {
    "place": (
        ["{n} lived in {v}.", "{n} came from {v}, beyond the hills.", "{n} had a small house in {v}."],
        ["{w}{n} was back from {v}.", "{w}{n} spoke of the road to {v}.", "{w}{n} went home to {v} and was glad."],
        [
            '"Where does {n} live?" asked {o}. "In {v}," said {p}.',
            '"Do you know where {n} comes from?" said {o}. "From {v}," answered {p}.',
            "{o} wished to know where {n} lived, and {p} said it was in {v}.",
        ],
    ),
    "thing": (
        ["{n} always carried a {v}.", "{n} had found a {v} by the river.", "{n} owned a {v}, and was proud of it."],
        ["{w}{n} looked at the {v} again.", "{w}{n} put down the {v} and sighed.", "{w}{n} was seen with the {v}."],
        [
            '"What does {n} carry?" asked {o}. "A {v}," said {p}.',
            '"And what has {n} found?" said {o}. "It was a {v}," answered {p}.',
            "{o} asked what {n} owned, and was told that it was a {v}.",
        ],
    ),
    "count": (
        ["{n} owned {v} {x}.", "{n} had {v} {x} in all.", "{n} was left {v} {x} by an aunt."],
        ["{w}{n} thought of the {v} {x}.", "{w}{n} counted the {v} {x} again.", "{w}{n} would have sold the {v} {x}."],
        [
            '"How many {x} has {n}?" asked {o}. "Just {v}," said {p}.',
            '"How many {x} does {n} own?" said {o}. "There are {v}," answered {p}.',
            "{o} asked how many {x} {n} had, and {p} said there were {v}.",
        ],
    ),
    "relative": (
        ["{n} had a {x} called {v}.", "The {x} of {n} was named {v}.", "{n} wrote to a {x}, {v}."],
        ["{w}{n} walked out with {v}.", "{w}{n} had a letter from {v}.", "{w}{n} was talking with {v}."],
        [
            '"Who is the {x} of {n}?" asked {o}. "It is {v}," said {p}.',
            '"What is the name of the {x} of {n}?" said {o}. "It is {v}," answered {p}.',
            "{o} asked who was the {x} of {n}, and {p} said it was {v}.",
        ],
    ),
}


@dataclass(frozen=True)
class Fact:
    kind: str
    who: str
    value: str
    what: str  # counted, or which relative


def new_fact(r: Random, used: set[str], kind: str | None = None) -> Fact:
    kind = kind or r.choice(sorted(PROSE))
    makers: dict[str, Callable[[], str]] = {
        "place": lambda: made_up_name(r),
        "relative": lambda: made_up_name(r),
        "thing": lambda: f"{r.choice(ADJECTIVES)} {r.choice(NOUNS)}",
        "count": lambda: str(r.randint(120, 9899)),
    }

    def fresh(make: Callable[[], str]) -> str:
        while (text := make()) in used:
            pass
        used.add(text)
        return text

    return Fact(
        kind, fresh(lambda: made_up_name(r)), fresh(makers[kind]), r.choice(COUNTED if kind == "count" else RELATIVES)
    )


def sentence(r: Random, fact: Fact, form: int, value_weight: float) -> tuple[bytes, list[float]]:
    """A telling (form 0), a mention (1) or a question (2), and its weights."""
    asks, answers = r.sample(PEOPLE, 2)
    fields = {"x": fact.what, "o": asks, "p": answers, "w": r.choice(WHEN)}
    text, weights = "", []
    for part in re.split(r"(\{.\})", r.choice(PROSE[fact.kind][form])):
        field = part[1:-1]
        if not part.startswith("{"):
            add, each = part, [1.0] * len(part)
        elif field == "v":
            add, each = fact.value, [value_weight] * len(fact.value)
        elif field == "n":  # who comes next can't be known: in a telling all of it, else its beginning
            add, each = fact.who, [0.0, 0.0] + [0.0 if form == 0 else 1.0] * (len(fact.who) - 2)
        else:
            add, each = fields[field], [0.5] * len(fields[field])
        text += add
        weights += each
    return text.encode() + b" ", weights + [1.0]


def prose(r: Random, length: int, answer_weight: float) -> list[Insert]:
    """Facts in sentences, each told once and coming back three to six times at gaps that grow."""
    used: set[str] = set()
    inserts = []
    room = length // 2
    one_kind = r.choice(sorted(PROSE)) if r.random() < 0.3 else None
    for _ in range(r.choice((1, 2, 2) if length <= 256 else (1, 2, 4, 6))):
        fact = new_fact(r, used, one_kind)
        at, gap = r.randrange(0, max(1, length // 2 - 48)), math.exp(r.uniform(math.log(4), math.log(80)))
        text, weights = sentence(r, fact, 0, 0.0)
        for _ in range(r.randint(4, 7)):
            if at + len(text) > length or room < len(text):
                break
            room -= len(text)
            inserts.append(Insert(at, text, weights, b". "))
            at += len(text) + int(gap)
            gap *= r.uniform(1.2, 3.0)
            form = 2 if r.random() < 0.7 else 1
            text, weights = sentence(r, fact, form, answer_weight if form == 2 else 1.0 + answer_weight / 3)
    return inserts


def weave(text: bytes, inserts: list[Insert], length: int) -> tuple[bytes, list[float]]:
    """`length` bytes of the text with the inserts in their order; and the weights."""
    far = 60
    out: list[bytes] = []
    weights: list[float] = []
    taken = have = 0
    for insert in sorted(inserts, key=lambda i: i.at):
        cut = max(taken, min(taken + insert.at - have, len(text)))
        for mark in (insert.behind, b" "):
            if (found := text.find(mark, cut, cut + far)) >= 0:
                cut = found + len(mark)
                break
        out += [text[taken:cut], insert.text]
        weights += [1.0] * (cut - taken) + insert.weights
        have += cut - taken + len(insert.text)
        taken = cut
    out.append(text[taken:])
    weights += [1.0] * (len(text) - taken)
    return b"".join(out)[:length], weights[:length]
