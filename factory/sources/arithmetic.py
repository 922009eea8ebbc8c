"""Seeded multi-step integer arithmetic: endless, exactly graded problems for the offline quickstart.

A problem is a chain of single steps on integers in 0..99 (``47+38-15``), posed as an expression or as a short
story. Every single step is easy; the difficulty is how many there are. The split of a chain is decided by a hash
of its canonical form, so ``train``, ``validation`` and ``heldout`` cannot overlap whatever the seeds and sizes are.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

HELDOUT_BUCKETS = 48  # of 256
VALIDATION_BUCKETS = 16  # those that follow

Split = Literal["train", "validation", "heldout"]

EXPRESSION_TEMPLATES = ("{e}=?", "Compute {e}.", "What is {e}?")
NAMES = ("Mia", "Tom", "Ana", "Ben", "Lea", "Max", "Zoe", "Sam")
ITEMS = ("pens", "books", "coins", "shells", "cards", "stamps", "apples", "beads")
WORDS = {
    "+": ("{n} finds {b} more.", "{n} buys {b} more.", "{n} gets {b} more."),
    "-": ("{n} loses {b}.", "{n} gives away {b}.", "{n} sells {b}."),
    "*": ("Then {n} has {b} times as many.",),
}


class ArithmeticSource(BaseModel):
    """Problems from the seeded arithmetic generator."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["arithmetic"] = "arithmetic"
    """Selects this source."""
    num: int = Field(1000, ge=1, le=2_000_000)
    """Number of distinct problems."""
    seed: int = 0
    """Seed of the generator; another seed gives other problems of the same split."""
    split: Split = "train"
    """Decided by a hash of each chain: no two splits share one. Tune on ``validation``, report on ``heldout``."""
    min_steps: int = Field(2, ge=1, le=20)
    """Fewest single steps in a chain."""
    max_steps: int = Field(5, ge=1, le=20)
    """Most single steps in a chain."""
    operators: str = Field("+-", pattern=r"^[+\-*]+$")
    """Operators a step may use; with ``*`` every chain holds at least one product."""
    story_share: float = Field(0.3, ge=0, le=1)
    """Share of problems posed as a short story instead of an expression."""

    @model_validator(mode="after")
    def _steps_in_order(self) -> ArithmeticSource:
        if self.min_steps > self.max_steps:
            raise ValueError(f"min_steps ({self.min_steps}) must not exceed max_steps ({self.max_steps})")
        return self


@dataclass(frozen=True)
class Chain:
    """``start`` followed by ``(operator, operand)`` steps, evaluated left to right; all values lie in 0..99."""

    start: int
    steps: tuple[tuple[str, int], ...]

    def results(self) -> list[int]:
        """Value after each step."""
        value, out = self.start, []
        for op, operand in self.steps:
            value = _apply(value, op, operand)
            out.append(value)
        return out

    def expression(self) -> str:
        """Ordinary notation: parentheses where left-to-right order differs from the usual precedence."""
        text, is_sum = str(self.start), False
        for op, operand in self.steps:
            if op == "*" and is_sum:
                text, is_sum = f"({text})", False
            text += f"{op}{operand}"
            is_sum = is_sum or op != "*"
        return text

    def split(self) -> Split:
        bucket = hashlib.sha256(self.expression().encode()).digest()[0]
        if bucket < HELDOUT_BUCKETS:
            return "heldout"
        return "validation" if bucket < HELDOUT_BUCKETS + VALIDATION_BUCKETS else "train"


def _apply(value: int, op: str, operand: int) -> int:
    if op == "+":
        return value + operand
    return value - operand if op == "-" else value * operand


def random_chain(rng: random.Random, num_steps: int, operators: str) -> Chain | None:
    """A chain whose values stay in 0..99, or None when the draw ran into a dead end (the caller draws again)."""
    start = value = rng.randint(1, 99)
    steps: list[tuple[str, int]] = []
    for _ in range(num_steps):
        op = rng.choice(operators)
        low, high = {"+": (1, 99 - value), "-": (1, value), "*": (2, 99 // max(value, 1))}[op]
        if op == "*" and value == 0 or low > high:
            return None
        operand = rng.randint(low, min(high, 9) if op == "*" else high)
        steps.append((op, operand))
        value = _apply(value, op, operand)
    return Chain(start, tuple(steps))


def pose(chain: Chain, rng: random.Random, as_story: bool) -> str:
    """The question as text."""
    if not as_story:
        return rng.choice(EXPRESSION_TEMPLATES).format(e=chain.expression())
    name, item = rng.choice(NAMES), rng.choice(ITEMS)
    middle = " ".join(rng.choice(WORDS[op]).format(n=name, b=operand) for op, operand in chain.steps)
    return f"{name} has {chain.start} {item}. {middle} How many {item} does {name} have now?"


def generate(source: ArithmeticSource) -> Iterator[tuple[Chain, str]]:
    """Yield ``source.num`` distinct ``(chain, question)`` pairs; the same source always gives the same pairs.

    Raises:
        ValueError: when the settings admit fewer distinct chains than asked for.
    """
    rng = random.Random(f"arithmetic-{source.seed}")
    seen: set[str] = set()
    misses = 0
    while len(seen) < source.num:
        num_steps = rng.randint(source.min_steps, source.max_steps)
        chain = random_chain(rng, num_steps, source.operators)
        if chain is None or not _wanted(chain, source) or chain.expression() in seen:
            misses += 1
            if misses > 200 * source.num + 100_000:
                raise ValueError(f"only {len(seen)} distinct problems exist for these settings, {source.num} asked for")
            continue
        seen.add(chain.expression())
        yield chain, pose(chain, rng, rng.random() < source.story_share)


def _wanted(chain: Chain, source: ArithmeticSource) -> bool:
    if chain.split() != source.split:
        return False
    return "*" not in source.operators or any(op == "*" for op, _ in chain.steps)
