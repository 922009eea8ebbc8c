"""Hundreds of damaged recipes: each one loads or is refused by a message that names the file, and nothing else."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from factory.errors import RecipeError
from factory.recipe_fields import all_keys
from factory.recipe_io import load_recipe

FULL = """\
name: full
description: every section and every key
seed: 7
problems:
  kind: file
  path: data.jsonl
  columns: {prompt: question, gold: answer, id: uid, licence: licence}
  gold_format: gsm8k
  licence: mit
  max_bad_rows: 0.01
prompt_template: |
  {problem}

  Think step by step.
teachers:
  select: smoke
  candidates:
    - name: local
      engine: {kind: transformers, model: models/steady, dtype: float32, batch_size: 8}
      system_prompt: Be brief.
    - name: served
      engine:
        kind: openai
        model: org/name
        base_url: http://localhost:8000/v1
        api_key_env: MY_KEY
        max_in_flight: 4
        timeout_s: 30
        max_retries: 2
        price_per_1m_prompt_tokens: 0.1
        price_per_1m_completion_tokens: 0.4
        max_spend: 20
    - name: replicas
      engine:
        kind: openai
        model: org/name
        base_urls: ["http://localhost:8000/v1", "http://localhost:8001/v1"]
        served_as: step-500
        max_requests_per_minute: 500
        max_tokens_per_minute: 100000
    - name: existing
      engine:
        kind: imported
        path: traces.jsonl
        columns: {response: text, thinking: thoughts, problem_id: uid, num_tokens: tokens, finish_reason: end}
        teacher: org/name
    - name: large
      engine:
        kind: vllm
        mode: server
        model: models/steady
        python: vllm-env/bin/python
        dtype: bfloat16
        tensor_parallel_size: 2
        data_parallel_size: 2
        max_model_len: 4096
        gpu_memory_utilization: 0.9
        quantization: fp8
        lora: adapters/maths
        extra_args: {max_num_seqs: 64}
        start_timeout_s: 600
        max_restarts: 2
  smoke: {num_problems: 10, num_samples: 1, train_tokens: 20000, num_questions: 10, eval_samples: 2}
rollouts:
  num_samples: 2
  temperature: 0.7
  top_p: 0.9
  max_tokens: 256
  adaptive:
    wanted: 2
    max_samples: 8
    min_distance: 0.1
    min_chance: 0.1
    temperatures: [0.6, 1.0]
    prompt_variants: ["{problem}", "Solve: {problem}"]
    first_wave: 2
    wave_growth: 2
    max_tokens_total: 100000
    prior: [1, 1]
verify:
  kind: first_decided
  members:
    - {kind: exact, time_limit_s: 2, num_workers: 2, ignore_case: false}
    - {kind: choice, num_options: 4}
    - {kind: regex, pattern: "a+", match: search, part: final}
    - {kind: reasoning_gym, threshold: 0.5}
    - {kind: plugin, check: "json:JSONDecoder", options: {}}
    - kind: code
      total_time_limit_s: 30
      memory_mb: 512
      float_tolerance: 0.000001
      all_tests: true
      sandbox: bubblewrap
difficulty:
  num_samples: 4
  temperature: 1
  top_p: 1.0
  max_tokens: 128
  adaptive: {edges: [0.25, 0.75], confidence: 0.8}
curate:
  size: 100
  max_tokens: 512
  require_think_tags: true
  require_correct: true
  selector: {kind: ded, max_pass_rate: 0.5, drop_unsolved: false, traces_per_problem: 2}
train:
  student: models/base
  methods: [sft]
  epochs: 2
  batch_size: 8
  micro_batch_size: 4
  learning_rate: 0.00001
  schedule: cosine
  warmup_ratio: 0.1
  weight_decay: 0
  max_grad_norm: 1
  max_length: 512
  dtype: bfloat16
  gradient_checkpointing: false
  lora: {rank: 8, alpha: 16, dropout: 0.05}
  kd: {top_k: 10, weight: 0.5}
eval:
  temperature: 0.6
  top_p: 0.95
  max_tokens: 256
  batch_size: 16
  intervals: {num_resamples: 500, level: 0.9}
  benchmarks:
    - name: pool
      problems: {kind: pool, num: 20}
      role: in_domain
      num_samples: 2
      max_questions: 10
    - name: longer
      problems:
        kind: arithmetic
        num: 50
        seed: 1
        split: heldout
        min_steps: 6
        max_steps: 8
        operators: "+-"
        story_share: 0.2
    - name: hub
      problems: {kind: hub, dataset: openai/gsm8k, revision: main, config: main, split: test}
      role: retention
      verifier:
        kind: judge
        engine: {kind: openai, model: org/judge, base_url: http://localhost:8001/v1}
        temperature: 0.1
        max_tokens: 512
        num_votes: 3
        seed: 4
        part: final
        max_response_chars: 900
        max_question_chars: 900
        require_quote: true
        rubric: To three digits.
        batch_size: 9
"""

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

WRONG_VALUES: list[Any] = [
    "text", "", "7", "no", "a: b", "\u2028 \x00 \x1b[31m", "x" * 5000, True, False, None,
    0, 1, -1, 2**31, 2**63, -(10**30), 10**400, 0.5, -0.1, 1e300, 5e-324, float("nan"), float("inf"),
    [], [[]], [1, 2], ["sft", "kd", "sft"], {}, {"kind": "file"}, {"kind": []}, {"a": {"b": {"c": 1}}},
]  # fmt: skip


def every_path(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all entries of nested mappings and lists."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [p for key, child in entries for p in ((*path, key), *every_path(child, (*path, key)))]


def parent_of(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        tree = tree[key]
    return tree


def delete(rng: random.Random, tree: Any, path: tuple[Any, ...]) -> None:
    del parent_of(tree, path)[path[-1]]


def rename(rng: random.Random, tree: Any, path: tuple[Any, ...]) -> None:
    parent, key = parent_of(tree, path), path[-1]
    letters = list(str(key))
    letters[rng.randrange(len(letters))] = rng.choice("abcxyz_.-0 é")
    value = parent[key]
    del parent[key]
    if isinstance(parent, dict):
        parent["".join(letters)] = value


def retype(rng: random.Random, tree: Any, path: tuple[Any, ...]) -> None:
    parent_of(tree, path)[path[-1]] = copy.deepcopy(rng.choice(WRONG_VALUES))


def transplant(rng: random.Random, tree: Any, path: tuple[Any, ...]) -> None:
    other = rng.choice(every_path(tree))
    parent_of(tree, path)[path[-1]] = copy.deepcopy(parent_of(tree, other)[other[-1]])


def check(path: Path, overrides: tuple[str, ...] = ()) -> bool:
    """Whether it loads; when it does not, whether the message is as promised."""
    try:
        load_recipe(path, overrides)
    except RecipeError as error:
        text = str(error)
        assert path.name in text or "--set" in text
        assert not re.search(r"\.(file|transformers|openai|pool|arithmetic|hub|exact|ded|judge)\.", text), text
        numbers = [int(n) for n in re.findall(rf"{re.escape(path.name)}:(\d+)", text)]
        assert all(1 <= n <= path.read_bytes().count(b"\n") + 2 for n in numbers)
        assert all(line.isprintable() for line in text.splitlines())
        return False
    return True


def test_the_full_recipe_loads_and_names_every_key(tmp_path: Path) -> None:
    path = tmp_path / "full.yaml"
    path.write_text(FULL)
    load_recipe(path)
    written = {key for p in every_path(yaml.safe_load(FULL)) for key in p}
    assert {key.rpartition(".")[2] for key in all_keys()} <= written


@pytest.mark.parametrize(
    ("mutate", "num"),
    [(delete, 100), (rename, 80), (retype, 300), (transplant, 80)],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_changed_trees_load_or_are_refused(tmp_path: Path, mutate: Callable[..., None], num: int) -> None:
    rng = random.Random(f"recipe-{mutate.__name__}")
    whole = yaml.safe_load(FULL)
    paths = every_path(whole)
    path = tmp_path / "mutant.yaml"
    loaded = 0
    for _ in range(num):
        tree = copy.deepcopy(whole)
        mutate(rng, tree, rng.choice(paths))
        path.write_text(yaml.dump(tree, Dumper=DUMPER, allow_unicode=rng.random() < 0.5), encoding="utf-8")
        loaded += check(path)
    assert 0 <= loaded < num


def duplicate_line(rng: random.Random, text: bytes) -> bytes:
    lines = text.splitlines(keepends=True)
    lines.insert(rng.randrange(len(lines)), rng.choice(lines))
    return b"".join(lines)


def insert_bytes(rng: random.Random, text: bytes) -> bytes:
    at = rng.randrange(len(text))
    return text[:at] + rng.randbytes(rng.randint(1, 4)) + text[at:]


SIGNS = [
    b"\t", b"\n", b"\r", b"&a ", b"*a ", b"!!int ", b"{", b"]", b": ", b"- ", b"'", b'"', b"#", b"%", b"@", b"|\n",
    b"? ", b"<<: *a\n", b"---\n", b"...\n", b"${A}", b"\\", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xc2\x85",
]  # fmt: skip


def insert_syntax(rng: random.Random, text: bytes) -> bytes:
    at = rng.randrange(len(text))
    return text[:at] + rng.choice(SIGNS) + text[at:]


def truncate(rng: random.Random, text: bytes) -> bytes:
    return text[: rng.randrange(len(text))]


@pytest.mark.parametrize("mutate", [duplicate_line, insert_bytes, insert_syntax, truncate], ids=lambda f: f.__name__)
def test_damaged_text_loads_or_is_refused(tmp_path: Path, mutate: Callable[..., bytes]) -> None:
    rng = random.Random(f"recipe-{mutate.__name__}")
    path = tmp_path / "mutant.yaml"
    refused = 0
    for _ in range(80):
        path.write_bytes(mutate(rng, FULL.encode()))
        refused += not check(path)
    assert refused > 20


def test_any_set_loads_or_is_refused(tmp_path: Path) -> None:
    rng = random.Random("recipe-set")
    path = tmp_path / "mutant.yaml"
    path.write_text(FULL)
    places = [".".join(map(str, p)) for p in every_path(yaml.safe_load(FULL))]
    values = [yaml.dump(value).removesuffix("...\n") for value in WRONG_VALUES] + [
        "[",
        "{a",
        "&a [*a]",
        "'",
        "\0",
        "\ud800",
        "=",
        "x=y",
    ]
    loaded = 0
    for _ in range(150):
        place = rng.choice(places) + rng.choice(["", "", "", "x", ".x", ".0", "."])
        loaded += check(path, (f"{place}={rng.choice(values)}",))
    assert 0 < loaded < 150
