"""Loading recipes: what is merged, what is refused, and that every message leads to the mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from factory import yaml_tree
from factory.errors import RecipeError
from factory.recipe_fields import all_keys
from factory.recipe_io import LoadedRecipe, load_recipe, locate, recipe_schema

GOOD = """\
name: small
problems:
  kind: arithmetic
  num: 100
teachers:
  candidates:
    - name: steady
      engine:
        kind: transformers
        model: models/steady
verify:
  kind: math
curate:
  selector:
    kind: ded
train:
  student: models/base
  epochs: 2
eval:
  benchmarks:
    - name: longer
      problems: {kind: arithmetic, split: heldout}
"""


def write(folder: Path, text: str, name: str = "r.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def message(path: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    return str(caught.value)


def load(folder: Path, text: str, *overrides: str) -> LoadedRecipe:
    return load_recipe(write(folder, text), overrides)


def test_a_small_recipe_gets_the_defaults(tmp_path: Path) -> None:
    loaded = load(tmp_path, GOOD)
    assert loaded.recipe.train.epochs == 2
    assert loaded.recipe.train.schedule == "cosine"
    assert (loaded.path, loaded.folder) == (tmp_path / "r.yaml", tmp_path)


# (text of GOOD, what stands there instead, line of the message, parts of that message)
BAD: list[tuple[str, str, int, tuple[str, ...]]] = [
    (
        "kind: math",
        "kind: mathh",
        12,
        (
            "verify.kind: ",
            '"mathh"',
            'did you mean "math"?',
            "allowed: all_of, any_of, choice, code, exact",
        ),
    ),
    ("kind: math", "kind: 7", 12, ("verify.kind: ", "got 7 (a number)", "allowed: all_of, any_of, choice")),
    ("kind: math", "num_workers: 2", 11, ("verify.kind: missing", "allowed: all_of, any_of, choice")),
    ("\n  kind: math", " 3", 11, ("verify: got 3 (a number)", "a section with kind: all_of or any_of or choice")),
    ("  num: 100", "  nmu: 100", 4, ("problems.nmu: unknown key", 'did you mean "num"?', "max_steps, min_steps, num")),
    ("  num: 100", "  path: a.jsonl", 4, ("problems.path: unknown key for kind arithmetic", "belongs to kind file")),
    ("  num: 100", "  num: 0", 4, ("problems.num: got 0 (a number)", "a whole number, at least 1, at most 2000000")),
    ("  num: 100", "  num: many", 4, ('problems.num: got "many" (text)', "a whole number")),
    ("  num: 100", '  num: "100"', 4, ('got "100" (text)', "Write it without quotes")),
    ("  num: 100", "  num: true", 4, ("got true (a truth value)",)),
    ("  num: 100", "  num: 2.5", 4, ("got 2.5 (a number)", "a whole number")),
    ("  num: 100", "  num: null", 4, ("got nothing (null)",)),
    ("  num: 100", "  num:", 4, ("got nothing (null)",)),
    ("  num: 100", "  num: 2024-01-01", 4, ('got "2024-01-01" (text)',)),
    ("  num: 100", "  num: [1]", 4, ("got a list of 1",)),
    ("  num: 100", "  num: {a: 1}", 4, ("got a mapping with a",)),
    ("  num: 100", "  num: .nan", 4, ("problems.num: .nan is not a finite number",)),
    ("  num: 100", "  num: -.INF", 4, ("-.INF is not a finite number",)),
    ("  num: 100", "  num: 1e999", 4, ("1e999 is too large a number",)),
    ("  num: 100", f"  num: {'9' * 5000}", 4, ("999... is too large a number",)),
    ("  num: 100", "  num: !!int 3", 4, ("the tag tag:yaml.org,2002:int means nothing here",)),
    ("  num: 100", "  num: !!python/object:os.system x", 4, ("problems.num: the tag", "means nothing here")),
    ("  num: 100", "  num: 3\n  num: 4", 5, ("problems.num: this key is already there at ", "r.yaml:4")),
    ("  num: 100", "  min_steps: 4\n  max_steps: 3", 4, ("problems: min_steps (4) must not exceed max_steps (3)",)),
    ("      model: models/steady", "", 8, ("engine.model: missing", "A local directory")),
    ("      engine:\n", "      engin:\n", 7, ("candidates.0.engine: missing; give a section with kind: imported or",)),
    ("      engine:\n", "      engin:\n", 8, ("candidates.0.engin: unknown key", 'did you mean "engine"?')),
    ("model: models/steady", "model: 7408e12", 10, ("got 7408e12 (a number)", "Text needs quotes")),
    ("model: models/steady", 'model: ""', 10, ("engine.model: ", "text, not empty")),
    ("model: models/steady", "model: {x}", 10, ("got a mapping with x", "Text needs quotes")),
    (
        "kind: transformers",
        "kind: openai\n        base_url: localhost",
        10,
        ("base_url: ", "matching ^https?://, or null"),
    ),
    ("kind: transformers", "kind: openai\n        api_key: hunter2", 10, ('did you mean "api_key_env"?',)),
    ("name: small", "name: a/b", 1, ('name: got "a/b" (text)', "text, matching")),
    ("name: small", "nme: small", 1, ("nme: unknown key", 'did you mean "name"?')),
    ("name: small", "num_sampels: 3\nname: s", 1, ("num_sampels: unknown key.  known here: curate, description",)),
    ("name: small", "learning_rate: 3\nname: s", 1, ("unknown key - there is train.learning_rate.",)),
    ("name: small", "defaults: a.yaml\nname: s", 1, ("defaults: unknown key", "`extends: other.yaml`")),
    ("  epochs: 2", "  extends: a.yaml", 18, ("train.extends: unknown key", "at the top of its file")),
    ("  epochs: 2", "  epochs: -1", 18, ("train.epochs: got -1", "a number, above 0")),
    ("  epochs: 2", "  schedule: cosin", 18, ('did you mean "cosine"?', "allowed: constant, cosine, linear.")),
    ("  epochs: 2", "  schedule: 5", 18, ("got 5 (a number); allowed: constant, cosine, linear",)),
    ("  epochs: 2", "  methods: []", 18, ("train.methods: needs one or more different methods",)),
    ("  epochs: 2", "  methods: [stf]", 18, ("train.methods.0: ", 'did you mean "sft"?')),
    ("  epochs: 2", "  methods: sft", 18, ('got "sft" (text); allowed: a list, each entry kd, sft',)),
    ("  epochs: 2", "  micro_batch_size: 3", 18, ("micro_batch_size: must divide batch_size (16), got 3",)),
    ("  epochs: 2", "  lora: 4", 18, ("got 4 (a number); allowed: a section with alpha, dropout, rank, or null",)),
    ("  epochs: 2", "  gradient_checkpointing: yes", 18, ('got "yes" (text); allowed: true or false',)),
    ("  student: models/base", "  dtype: float32", 16, ("train.student: missing; give text, not empty (Base student",)),
    ("kind: ded", "kind: ded\n  size: 2", 16, ("curate: selector.traces_per_problem (4) must not exceed",)),
    ("  benchmarks:", "  benchmarks: []\n  x:", 20, ("eval.benchmarks: got an empty list", "at least one")),
    ("    - name: longer", "    - 5\n    - name: longer", 21, ("eval.benchmarks.0: got 5 (a number)",)),
    (
        "split: heldout",
        "split: test",
        22,
        ("eval.benchmarks.0.problems.split: ", "allowed: heldout, train, validation."),
    ),
    (
        "kind: arithmetic, split",
        "kind: arith, split",
        22,
        ("benchmarks.0.problems.kind: ", "arithmetic, file, hub, pool"),
    ),
    (
        "kind: arithmetic\n",
        "kind: pool\n",
        3,
        ('problems.kind: unknown value "pool"', "allowed: arithmetic, file, hub."),
    ),
    ("epochs: 2", "epochs: ${EPOCHS}", 18, ("train.epochs: ${EPOCHS} looks like an environment variable",)),
    ("models/base", "$HOME/base", 17, ("train.student: $HOME looks like an environment variable",)),
    ("models/base", "data/${USER:-hunter2}/x", 17, ("${USER} looks like an environment variable",)),
    ("models/base", '"a\\0b"', 17, ("train.student: text with a control character in it",)),
    ("name: small", "name: small\nprompt_template: solve it", 2, ("prompt_template: must contain {problem}",)),
    ("  epochs: 2", "\tepochs: 2", 18, ("not YAML", "here is a tab")),
    ("  epochs: 2", "  epochs: 2: 3", 18, ("not YAML", "needs quotes")),
    ("  epochs: 2", "  epochs: *two", 18, ("train.epochs: *two has no anchor before it",)),
    ("  epochs: 2", "  epochs: &a [*a]", 18, ("*a lies inside its own anchor",)),
    ("  epochs: 2", "  ? [a]\n  : 2", 18, ("cannot be a key",)),
    ("  epochs: 2", "  {a: 1}: 2", 18, ("cannot be a key",)),
    ("  epochs: 2", "  epochs: 'two", 18, ("not YAML", "(noticed in line 23)")),
    ("  epochs: 2", "  epochs: 2\x07", 18, ("a character that text cannot hold (U+0007)",)),
    ("eval:", "---\neval:", 19, ("a second document begins here",)),
]


@pytest.mark.parametrize(("old", "new", "line", "parts"), BAD, ids=[f"{b[1][:30]!r}" for b in BAD])
def test_a_mistake_is_named_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, parts: tuple[str, ...]
) -> None:
    assert GOOD.count(old) >= 1
    path = write(tmp_path, GOOD.replace(old, new, 1))
    text = message(path)
    told = [part for part in text.splitlines() if part.startswith(f"{path}:{line}: ")]
    assert any(all(part in one for part in parts) for one in told), text
    assert "hunter2" not in text


def test_all_mistakes_come_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    text = GOOD.replace("num: 100", "num: .inf").replace("kind: math", "kind: mat").replace("epochs: 2", "epoch: 2")
    path = write(tmp_path, text)
    lines = message(path, "rollouts.num_samples=0", "curate.sise=3").splitlines()
    places = [":4: ", ":12: ", ":18: ", "--set rollouts.num_samples=0: ", "--set curate.sise=3: "]
    assert len(lines) == 6
    assert all(place in line for place, line in zip(places, lines, strict=False))
    assert lines[-1].startswith("5 mistakes; `factory schema`")


def test_a_file_with_very_many_mistakes_does_not_flood_the_screen(tmp_path: Path) -> None:
    text = message(write(tmp_path, GOOD + "".join(f"key{i}: 1\n" for i in range(2000))))
    assert len(text.splitlines()) == yaml_tree.MAX_SHOWN + 2
    assert "more than 40 mistakes" in text


UNREADABLE = [
    (b"", "the file is empty"),
    (b"# only a comment\n", "the file is empty"),
    (b"name: caf\xe9\n", "not UTF-8 text"),
    (GOOD.encode("utf-16"), "not UTF-8 text"),
    (b"- a\n- b\n", "the top level is a list of 2"),
    (b"just words\n", 'the top level is "just words" (text)'),
    (b"null\n", "the top level is nothing (null)"),
    (b"a: " + b"[" * 900 + b"]" * 900, "nested deeper than 40 levels"),
    (b"a: " + b"[" * 100_000, "exceeded maximum nesting depth"),
    (b"a: " + b"{a: " * 200_000, "nested deeper than 40 levels"),
    (b"- " * 100_000 + b"x\n", "nested deeper than 40 levels"),
    (b"a: &a0 [x]\n" + b"".join(b"a%d: &a%d [*a%d]\n" % (i, i, i - 1) for i in range(1, 90)), "once its aliases"),
    (b"a: &a0 [x]\n" + b"".join(b"a%d: &a%d [%s*a%d]\n" % (i, i, b"*a%d," % (i - 1) * 9, i - 1) for i in range(1, 9)),
     "more than 20,000 values once its aliases are expanded"),
    (b"a: [" + b"1," * 300_000 + b"1]", "more than 20,000 values"),
    (b"#" * 1_100_000, "larger than 1,000,000 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "part"), UNREADABLE, ids=[part for _, part in UNREADABLE])
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, data: bytes, part: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(data)
    assert part in message(path)
    assert message(path).startswith(str(path))


def test_the_python_parser_of_yaml_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = write(tmp_path, "a: " + "[" * 5000, "deep.yaml")
    fast = load(tmp_path, GOOD).recipe
    monkeypatch.setattr(yaml_tree, "_LOADER", yaml.SafeLoader)
    assert load(tmp_path, GOOD).recipe == fast
    assert ":12: verify.kind" in message(write(tmp_path, GOOD.replace("kind: math", "kind: mat")))
    assert "here is a tab" in message(write(tmp_path, GOOD.replace("  epochs", "\tepochs")))
    assert "nested deeper" in message(deep)


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "gsm8k.yaml")
    assert 'no such file - did you mean "gsm8k.yaml"?' in message(tmp_path / "gsm8.yaml")
    assert "no such file" in message(tmp_path / "nowhere" / "gsm8.yaml")
    assert "cannot be read: Is a directory" in message(tmp_path)
    assert "cannot be read" in message(Path(f"{tmp_path}/{'x' * 300}.yaml"))


@pytest.mark.parametrize(
    "secret",
    ["sk-abcDEF123456", "sk-ant-api03-abcdefghij", "sk-1234", "hf_abcdefghijklmnopqrst", "https://u:pw9@host/v1"],
)
@pytest.mark.parametrize("place", ["epochs: {}", "{}: 3", "epochs: 2 # {}", "epochs: [{}", "{}"])
def test_a_key_is_refused_and_never_shown(tmp_path: Path, secret: str, place: str) -> None:
    hidden = "pw9" if "pw9" in secret else secret
    path = write(tmp_path, GOOD.replace("epochs: 2", place.format(secret)))
    text = message(path)
    assert text.startswith(f"{path}:18: this looks like an API key or a password")
    assert hidden not in text
    assert hidden not in message(write(tmp_path, GOOD), f"train.student={secret}")
    assert hidden not in message(write(tmp_path, GOOD), f"{secret}=1")
    assert hidden not in message(write(tmp_path, GOOD), secret)


def test_a_value_under_a_secret_sounding_name_is_not_shown(tmp_path: Path) -> None:
    text = GOOD.replace("kind: transformers", "kind: openai\n        api_key_env: my-hunter2")
    path = write(tmp_path, text)
    assert "api_key_env: got a value that is not shown" in message(path)
    assert "hunter2" not in message(path)
    told = message(path, "teachers.candidates.0.engine.api_key_env=my-hunter2")
    assert "--set teachers.candidates.0.engine.api_key_env=...: " in told
    assert "hunter2" not in told


def test_mathematics_is_no_environment_variable(tmp_path: Path) -> None:
    template = "Solve ${a}^2$ for $x$ in {problem}"
    assert load(tmp_path, GOOD + f"prompt_template: '{template}'\n").recipe.prompt_template == template
    assert load(tmp_path, GOOD + "prompt_template: ${problem}$\n").recipe.prompt_template == "${problem}$"
    assert load(tmp_path, GOOD + "description: costs $5 at $x$\n").recipe.description == "costs $5 at $x$"
    assert load(tmp_path, GOOD + "description: $x+y$\n").recipe.description == "$x+y$"
    long = f"${'a' * 200_000}$"  # hours, if the pattern could backtrack
    assert load(tmp_path, GOOD + f"description: {long}\n").recipe.description == long


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-5", 1e-5), ("2", 2.0), ("1_000", 1000.0), ("0x10", 16.0), (".5", 0.5), ("+1.5E1", 15.0), ("010", 10.0)],
)
def test_numbers_are_read_as_in_yaml_1_2(tmp_path: Path, text: str, value: float) -> None:
    assert load(tmp_path, GOOD, f"train.epochs={text}").recipe.train.epochs == value


def test_a_whole_number_may_have_an_exponent_and_a_text_may_look_like_a_date(tmp_path: Path) -> None:
    loaded = load(tmp_path, GOOD, "teachers.smoke.train_tokens=2e5", "description=2024-01-01", "name=no")
    assert loaded.recipe.teachers.smoke.train_tokens == 200_000
    assert (loaded.recipe.description, loaded.recipe.name) == ("2024-01-01", "no")


def test_anchors_aliases_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    text = GOOD + "rollouts: &draw {num_samples: 2}\ndifficulty: *draw\n"
    path = tmp_path / "r.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load_recipe(path).recipe.difficulty.num_samples == 2


# --- extends


def test_extends_merges_mappings_and_replaces_the_rest(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "base.yaml")
    loaded = load(
        tmp_path,
        "extends: base.yaml\nname: child\ntrain: {epochs: 9}\neval: {benchmarks: [{name: p, problems: {kind: pool}}]}",
    )
    assert (loaded.recipe.name, loaded.recipe.train.epochs, loaded.recipe.train.student) == ("child", 9, "models/base")
    assert [b.name for b in loaded.recipe.eval.benchmarks] == ["p"]


def test_a_section_of_another_kind_replaces_the_base(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "base.yaml")
    loaded = load(tmp_path, "extends: base.yaml\nproblems: {kind: file, path: a.jsonl}\n")
    assert loaded.recipe.problems.model_dump()["path"] == "a.jsonl"
    same = load(tmp_path, "extends: base.yaml\nproblems: {kind: arithmetic, seed: 3}\n").recipe.problems.model_dump()
    assert (same["num"], same["seed"]) == (100, 3)


def test_later_entries_of_extends_win_and_paths_are_relative_to_the_extending_file(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "common/base.yaml")
    write(tmp_path, "extends: base.yaml\ntrain: {epochs: 3, batch_size: 4}\n", "common/mid.yaml")
    write(tmp_path, "train: {epochs: 5}\n", "exp/more.yaml")
    path = write(tmp_path, "extends: [../common/mid.yaml, more.yaml]\nname: x\n", "exp/r.yaml")
    train = load_recipe(path).recipe.train
    assert (train.epochs, train.batch_size) == (5, 4)


def test_a_message_names_the_file_that_holds_the_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, GOOD.replace("kind: math", "kind: mathh"), "base.yaml")
    write(tmp_path, "extends: ../base.yaml\ntrain:\n  epoch: 3\n", "exp/r.yaml")
    monkeypatch.chdir(tmp_path)
    lines = message(Path("exp/r.yaml")).splitlines()
    assert lines[0].startswith("exp/r.yaml:3: train.epoch: unknown key")
    assert lines[1].startswith("base.yaml:12: verify.kind: unknown value")


def test_a_circle_of_extends_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, other in (("a", "b"), ("b", "c"), ("c", "a")):
        write(tmp_path, f"name: x\nextends: {other}.yaml\n", f"{name}.yaml")
    assert message(Path("a.yaml")).startswith(
        "c.yaml:2: extends: goes round in a circle: a.yaml -> b.yaml -> c.yaml -> a.yaml"
    )


def test_a_very_long_chain_of_extends_is_refused_and_a_wide_one_is_cheap(tmp_path: Path) -> None:
    for i in range(40):
        write(tmp_path, f"extends: [{i + 1}.yaml, {i + 1}.yaml]\n", f"{i}.yaml")
    assert "more than 20 recipes in a row" in message(tmp_path / "0.yaml")
    write(tmp_path, GOOD, "15.yaml")
    assert load_recipe(tmp_path / "0.yaml").recipe.name == "small"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("extends: bsae.yaml", ':1: extends: bsae.yaml: no such file - did you mean "base.yaml"?'),
        ("name: x\nextends: [base.yaml, 3]", ":2: extends: got 3 (a number); allowed: the name of a file"),
        ("extends: {a: 1}", ":1: extends: got a mapping with a"),
        ("extends:", ":1: extends: got nothing (null)"),
        ("extends: .", "cannot be read: Is a directory"),
    ],
)
def test_a_wrong_extends_is_refused_at_its_line(tmp_path: Path, text: str, part: str) -> None:
    write(tmp_path, GOOD, "base.yaml")
    assert part in message(write(tmp_path, text)).replace(f"{tmp_path}/", "")


# --- --set


def test_set_reaches_lists_and_makes_missing_sections(tmp_path: Path) -> None:
    loaded = load(
        tmp_path, GOOD, "teachers.candidates.0.engine.model=x", "train.lora.rank=4", "rollouts={num_samples: 3}"
    )
    assert loaded.recipe.teachers.candidates[0].engine.model == "x"
    assert loaded.recipe.train.lora is not None and loaded.recipe.train.lora.rank == 4
    assert loaded.recipe.rollouts.num_samples == 3


def test_the_last_set_wins_over_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD, "train.epochs=3", "train.epochs=4").recipe.train.epochs == 4


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("train.epoch=3", '--set train.epoch=3: train.epoch: unknown key - did you mean "epochs"?'),
        ("train.epochs=x", '--set train.epochs=x: train.epochs: got "x" (text); allowed: a number, above 0'),
        ("train.epochs=[", "--set train.epochs=[: not YAML"),
        ("train.epochs=.nan", "--set train.epochs=.nan: .nan is not a finite number"),
        ("train.epochs", "--set train.epochs: a setting has the form section.key=value"),
        ("=3", "--set =3: a setting has the form"),
        ("train..epochs=3", "--set train..epochs=3: a setting has the form"),
        ("teachers.candidates.1.name=x", "teachers.candidates.1: no such entry in the list at "),
        ("teachers.candidates.x.name=x", "allowed: 0 to 0"),
        ("train.student.name=x", 'train.student: has no keys: it is "models/base" (text) at '),
        ("extends=x.yaml", "--set extends=x.yaml: extends: only a file extends another one"),
        ("verify.kind=mat", '--set verify.kind=mat: verify.kind: unknown value "mat" - did you mean "math"?'),
        ("name=$HOME/x", "--set name=$HOME/x: name: $HOME looks like an environment variable"),
        ("name=\udcff", "--set name=\\udcff: a character that text cannot hold"),
        ("description=" + "x\n" * 90 + ": [", "\\nx\\nx"),
        (".".join("a" * 50) + "=1", "a setting has the form"),
    ],
)
def test_a_wrong_set_is_named_as_it_was_given(tmp_path: Path, override: str, part: str) -> None:
    text = message(write(tmp_path, GOOD), override)
    assert part in text
    text.encode()  # printable everywhere


# --- references to local files


def test_references_stay_as_written_and_are_found_beside_the_recipe_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("recipes/models/base", "models/base", "models/only-here"):
        (tmp_path / place).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "recipes"
    loaded = load_recipe(write(tmp_path, GOOD, "recipes/r.yaml").relative_to(tmp_path))
    assert loaded.recipe.train.student == "models/base"
    assert locate("models/base", loaded.folder) == str(folder / "models/base")
    assert loaded.located().train.student == str(folder / "models/base")
    assert loaded.located().teachers.candidates[0].engine.model == "models/steady"  # is nowhere
    assert locate("models/only-here", loaded.folder) == str(tmp_path / "models/only-here")
    for unchanged in ("", "org/name", "package:tiny", "/models/base", "x" * 5000, "a\0b"):
        assert locate(unchanged, loaded.folder) == unchanged


def test_a_set_reference_is_taken_from_the_working_directory_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("recipes/models/base", "models/base"):
        (tmp_path / place).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    loaded = load_recipe(write(tmp_path, GOOD, "recipes/r.yaml"), ["train.student=models/base"])
    assert loaded.recipe.train.student == "../models/base"
    assert locate(loaded.recipe.train.student, loaded.folder) == str(tmp_path / "models/base")


def test_an_extended_recipe_keeps_its_own_folder(tmp_path: Path) -> None:
    text = GOOD.replace("kind: arithmetic\n  num: 100", "kind: file\n  path: data.jsonl")
    text += "    - {name: own, problems: {kind: file, path: data.jsonl}}\n"
    for name in ("common/data.jsonl", "exp/data.jsonl", "common/models/steady"):
        write(tmp_path, "x", name)
    write(tmp_path, text, "common/base.yaml")
    loaded = load_recipe(write(tmp_path, "extends: ../common/base.yaml\nname: x\n", "exp/r.yaml"))
    recipe = loaded.recipe
    assert recipe.problems.model_dump()["path"] == "../common/data.jsonl"
    assert recipe.eval.benchmarks[1].problems.model_dump()["path"] == "../common/data.jsonl"
    assert recipe.teachers.candidates[0].engine.model == "../common/models/steady"
    assert recipe.train.student == "models/base"
    located = loaded.located()
    assert located.problems.model_dump()["path"] == str(tmp_path / "common/data.jsonl")
    assert located.eval.benchmarks[1].problems.model_dump()["path"] == str(tmp_path / "common/data.jsonl")
    assert located.teachers.candidates[0].engine.model == str(tmp_path / "common/models/steady")
    assert load_recipe(tmp_path / "common/base.yaml").recipe.problems.model_dump()["path"] == "data.jsonl"


def test_the_model_name_of_a_server_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "common/models/steady").mkdir(parents=True)
    write(tmp_path, GOOD.replace("kind: transformers", "kind: openai"), "common/base.yaml")
    loaded = load_recipe(write(tmp_path, "extends: ../common/base.yaml\n", "exp/r.yaml"))
    assert loaded.recipe.teachers.candidates[0].engine.model == "models/steady"


# --- schema and cost


def test_the_schema_describes_every_key() -> None:
    schema = recipe_schema()
    json.dumps(schema)
    parts = {"Recipe": schema, **schema["$defs"]}
    bare = [f"{name}.{key}" for name, part in parts.items() for key, value in part["properties"].items()
            if not value.get("description")]  # fmt: skip
    assert bare == []
    assert {key.split(".")[0] for key in all_keys()} | {"extends"} == set(schema["properties"])


def test_the_schema_wants_kind_where_loading_does(tmp_path: Path) -> None:
    schema = recipe_schema()
    assert "kind" in schema["$defs"]["MathConfig"]["required"]
    assert "verify.kind: missing" in message(write(tmp_path, GOOD.replace("  kind: math", "  time_limit_s: 3")))


def test_loading_imports_nothing_heavy() -> None:
    heavy = "torch transformers datasets pyarrow numpy sympy openai matplotlib rapidfuzz difflib"
    code = f"import sys, factory.recipe_io; print([m for m in {heavy.split()} if m in sys.modules])"
    root = Path(__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env, cwd=root)
    assert done.stdout.strip() == "[]"
