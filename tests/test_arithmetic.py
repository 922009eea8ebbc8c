"""The problem generator of the quickstart."""

from __future__ import annotations

import json
import re

import pytest

from factory.errors import DataError
from factory.sources.arithmetic import ArithmeticSource, generate
from factory.sources.load import load_problems


def test_the_splits_of_arithmetic_share_no_chain_whatever_the_seeds() -> None:
    splits = ("train", "validation", "heldout")
    chains = {
        split: {
            chain.expression()
            for seed in (1, 2)
            for chain, _ in generate(ArithmeticSource(num=400, seed=seed, split=split, min_steps=2, max_steps=2))
        }
        for split in splits
    }
    assert all(len(chains[split]) > 400 for split in splits)
    assert not chains["train"] & chains["validation"]
    assert not chains["train"] & chains["heldout"]
    assert not chains["validation"] & chains["heldout"]


def test_arithmetic_problems_say_what_they_are() -> None:
    loaded = load_problems(ArithmeticSource(num=50, seed=1, operators="+-*"))
    problem = loaded.problems[0]
    meta = json.loads(problem.meta)
    value = eval(meta["chain"], {"__builtins__": {}})  # an expression of our own generator
    assert str(value) == problem.gold and meta["steps"] == len(re.findall(r"[-+*]", meta["chain"]))
    assert problem.licence == "Apache-2.0" and '"seed":1' in problem.source
    assert len({p.id for p in loaded.problems}) == 50 and loaded.dropped == []


def test_arithmetic_that_runs_out_is_a_data_error() -> None:
    with pytest.raises(DataError, match="distinct problems exist .* lower num"):
        load_problems(ArithmeticSource(num=300, min_steps=1, max_steps=1, operators="*"))
