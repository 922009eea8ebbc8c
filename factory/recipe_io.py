"""Loads a recipe: the file, what it ``extends``, and ``--set``; one error lists every mistake with its line.

Environment variables are never interpolated and anything that looks like a key is refused: a recipe means the same
everywhere, and a secret never comes near a file or a message.

References to local files (``path`` of a file source, ``model`` of a transformers engine, ``train.student``, the file of
a plugin's ``check``) stay as they were written, so that a saved recipe can be compared between machines; in
``LoadedRecipe.located()`` they are absolute. Only what was written relative to another folder, in an extended recipe or
by ``--set``, is rewritten at once to be relative to the recipe's own.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from factory.checks import JudgeSection
from factory.engines.config import ImportedEngineConfig, TransformersEngineConfig, VllmEngineConfig
from factory.errors import RecipeError
from factory.recipe import Recipe
from factory.recipe_fields import recipe_schema
from factory.recipe_messages import SECRET_NAME, did_you_mean, explain
from factory.sources.config import FileSource
from factory.yaml_tree import MAX_DEPTH, Fault, Key, Node, Place, dotted, read_tree, recipe_error, shown
from verifiers.config import CombineConfig, PluginConfig

__all__ = ["LoadedRecipe", "load_recipe", "locate", "recipe_schema"]

MAX_BYTES = 1_000_000
MAX_EXTENDS = 20
_MAX_EXPLAINED = 300

_SECRET = re.compile(
    r"(?<![A-Za-z0-9_-])(sk-([A-Za-z0-9_-]{8,}|[0-9]{3,})|(hf|ghp|gsk)_[A-Za-z0-9]{16,}|(xai|nvapi)-[A-Za-z0-9_-]{16,}"
    r"|AIza[A-Za-z0-9_-]{30,})|(?<=://)[^\s/@:]+:[^\s/@]+(?=@)"
)
_SECRET_FOUND = (
    "this looks like an API key or a password (not shown here); a recipe never holds one: put it into an environment"
    " variable and write the name of the variable as api_key_env"
)
_VARIABLE = re.compile(r"\$\{(?!problem\})[A-Za-z_]\w*|\$[A-Za-z_]\w*+(?![^$]*\$)")  # `$x$` is mathematics
_VARIABLE_IN_PROSE = re.compile(r"\$\{[A-Z][A-Z0-9_]*(?=\})")

_Part = TypeVar("_Part", bound=BaseModel)


@dataclass(frozen=True)
class LoadedRecipe:
    """A valid recipe and where it came from."""

    recipe: Recipe
    """Defaults filled in, references to local files relative to ``folder`` as the text above says."""
    path: Path
    folder: Path
    """Absolute folder of ``path``."""

    def located(self) -> Recipe:
        """The recipe with every reference made absolute by ``locate``: what a run works with, not what it hashes."""
        return _with_references(self.recipe, lambda reference, _: locate(reference, self.folder))


def locate(reference: str, folder: Path) -> str:
    """A relative path as an absolute one where it exists: in ``folder``, else in the working directory.

    Anything else (absolute, found nowhere, ``package:NAME``, a hub id) comes back unchanged.
    """
    return _existing(reference, folder) or _existing(reference, Path.cwd()) or reference


def _existing(reference: str, folder: Path) -> str | None:
    """Absolute path of a relative reference that exists in ``folder``."""
    if not reference or Path(reference).is_absolute():
        return None
    path = Path(os.path.normpath(folder.absolute() / reference))
    try:
        return str(path) if path.exists() else None
    except OSError:  # a name that no file can have, or a folder that may not be read
        return None


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Read, merge and check a recipe. Later wins: defaults, ``extends``, the file itself, ``overrides``.

    ``extends: other.yaml`` (or a list, whose later entries win) names files relative to the file that says so.
    Mappings are merged key by key; lists, scalars, and sections of another ``kind`` are replaced.

    Args:
        path: the YAML file.
        overrides: ``train.epochs=3`` or ``teachers.candidates.0.engine.model=x``; the value is YAML and replaces what
            was there.

    Raises:
        RecipeError: listing every mistake with its file and line, or its ``--set``. What looks like a key is never
            shown.
    """
    faults: list[Fault] = []
    label = shown(str(path))
    tree = _Files(faults).load(path, label)
    for text in overrides:
        tree = _override(tree, text, faults)
    _refuse_variables(tree, (), faults)
    recipe = None
    try:
        # As JSON, strictly: `true` is not 1 and "7" is not 7, but a list may become a tuple.
        recipe = Recipe.model_validate_json(json.dumps(tree.plain()), strict=True)
    except ValidationError as error:
        faults += _explained(error, tree, {fault.place for fault in faults})
    if faults or recipe is None:
        raise recipe_error(faults, first=label)
    folder = path.absolute().parent
    return LoadedRecipe(_rebased(recipe, tree, folder), path, folder)


def _explained(error: ValidationError, tree: Node, told: set[Place]) -> list[Fault]:
    """Pydantic's errors, without those at a line of which something worse was said already."""
    found = [explain(detail, tree) for detail in error.errors(include_url=False)[:_MAX_EXPLAINED]]
    return [fault for fault in found if fault and fault.place not in told]


def _rebased(recipe: Recipe, tree: Node, folder: Path) -> Recipe:
    """References from extended recipes of other folders and from ``--set``, relative to ``folder``."""

    def rebased(reference: str, path: tuple[Key, ...]) -> str:
        node: Node | None = tree
        for key in path:
            node = node.child(key) if node else None
        own = (node.place.folder if node else None) or Path.cwd()  # a --set has no folder
        found = None if own == folder else _existing(reference, own)
        return os.path.relpath(found, folder) if found else reference

    return _with_references(recipe, rebased)


def _with_references(recipe: Recipe, change: Callable[[str, tuple[Key, ...]], str]) -> Recipe:
    """The recipe with each reference to a local file replaced by ``change(reference, its path in the recipe)``."""

    def part(value: _Part, *path: Key) -> _Part:
        if isinstance(value, FileSource):
            return value.model_copy(update={"path": change(value.path, (*path, "path"))})
        if isinstance(value, TransformersEngineConfig):  # an openai model's name is the server's business
            return value.model_copy(update={"model": change(value.model, (*path, "model"))})
        if isinstance(value, VllmEngineConfig):
            named = {name: getattr(value, name) for name in ("model", "lora", "python")}
            return value.model_copy(update={n: change(at, (*path, n)) for n, at in named.items() if at})
        if isinstance(value, ImportedEngineConfig) and value.path:
            return value.model_copy(update={"path": change(value.path, (*path, "path"))})
        if isinstance(value, JudgeSection):
            return value.model_copy(update={"engine": part(value.engine, *path, "engine")})
        if isinstance(value, CombineConfig):
            members = tuple(part(member, *path, "members", i) for i, member in enumerate(value.members))
            return value.model_copy(update={"members": members})
        if isinstance(value, PluginConfig):
            place, colon, name = value.check.rpartition(":")
            if place.endswith(".py"):
                return value.model_copy(update={"check": change(place, (*path, "check")) + colon + name})
        return value

    candidates = tuple(
        teacher.model_copy(update={"engine": part(teacher.engine, "teachers", "candidates", i, "engine")})
        for i, teacher in enumerate(recipe.teachers.candidates)
    )
    benchmarks = tuple(
        benchmark.model_copy(
            update={
                "problems": part(benchmark.problems, "eval", "benchmarks", i, "problems"),
                "verifier": benchmark.verifier and part(benchmark.verifier, "eval", "benchmarks", i, "verifier"),
            }
        )
        for i, benchmark in enumerate(recipe.eval.benchmarks)
    )
    student = change(recipe.train.student, ("train", "student"))
    return recipe.model_copy(
        update={
            "problems": part(recipe.problems, "problems"),
            "teachers": recipe.teachers.model_copy(update={"candidates": candidates}),
            "verify": part(recipe.verify, "verify"),
            "train": recipe.train.model_copy(update={"student": student}),
            "eval": recipe.eval.model_copy(update={"benchmarks": benchmarks}),
        }
    )


class _Files:
    """Loads recipe files and what they extend; each file is read once."""

    def __init__(self, faults: list[Fault]) -> None:
        self._faults = faults
        self._done: dict[str, Node] = {}

    def load(self, path: Path, label: str, chain: tuple[tuple[str, str], ...] = (), asked: Place | None = None) -> Node:
        """The merged tree of ``path``; ``chain`` holds (real path, label) of the files that led here."""
        real = os.path.realpath(path)
        names = " -> ".join([*(name for _, name in chain), label])
        if real in (known for known, _ in chain):
            raise self._stop(asked or Place(label, 1), f"goes round in a circle: {names}")
        if len(chain) >= MAX_EXTENDS:
            raise self._stop(asked or Place(label, 1), f"more than {MAX_EXTENDS} recipes in a row: {names}")
        if real not in self._done:
            text = _read_text(path, label, asked)
            tree = read_tree(text, Place(label, 1, path.absolute().parent), self._faults)
            self._done[real] = self._extended(tree, path, (*chain, (real, label)))
        return self._done[real]

    def _stop(self, place: Place, text: str, *path: Key) -> RecipeError:
        return recipe_error([*self._faults, Fault(place, path or ("extends",), text)])

    def _extended(self, tree: Node, path: Path, chain: tuple[tuple[str, str], ...]) -> Node:
        if not isinstance(tree.value, dict):
            text = f"the top level is {tree.describe()}; a recipe is made of `key: value` lines"
            raise recipe_error([*self._faults, Fault(tree.place, (), text)])
        extends = tree.value.pop("extends", None)
        if extends is None:
            return tree
        merged: Node | None = None
        for entry in extends.value if isinstance(extends.value, list) else [extends]:
            if not isinstance(entry.value, str) or not entry.value:
                text = f"got {entry.describe()}; allowed: the name of a file, or a list of them"
                self._faults.append(Fault(entry.place, ("extends",), text))
                continue
            label = os.path.normpath(Path(chain[-1][1]).parent / shown(entry.value))
            base = self.load(path.parent / entry.value, label, chain, entry.place)
            merged = _merge(merged, base) if merged else base
        return _merge(merged, tree) if merged else tree


def _merge(base: Node, over: Node) -> Node:
    """``over`` on ``base``: mappings key by key, unless ``kind`` differs, for then nothing of the base would fit."""
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    kind, old_kind = over.value.get("kind"), base.value.get("kind")
    if kind and old_kind and kind.value != old_kind.value:
        return over
    merged = dict(base.value)
    for key, node in over.value.items():
        merged[key] = _merge(merged[key], node) if key in merged else node
    return Node(merged, over.place)


def _read_text(path: Path, label: str, asked: Place | None) -> str:
    """The file's text; a file that cannot be read is an error at ``asked``, the line that names it, if there is one."""
    where, about = (asked, f"extends: {label}: ") if asked else (Place(label), "")
    try:
        with open(path, "rb") as handle:
            data = handle.read(MAX_BYTES + 1)
    except FileNotFoundError:
        hint = did_you_mean(path.name, _recipes_beside(path))
        raise recipe_error([Fault(where, (), f"{about}no such file{hint}")]) from None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise recipe_error([Fault(where, (), f"{about}cannot be read: {reason}")]) from None
    if len(data) > MAX_BYTES:
        raise recipe_error([Fault(where, (), f"{about}larger than {MAX_BYTES:,} bytes, which no recipe is")])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise recipe_error([Fault(Place(label, line), (), "not UTF-8 text; save the file as UTF-8")]) from None
    found = [text.count("\n", 0, match.start()) + 1 for match in _SECRET.finditer(text)]
    if found:  # alone, because another message could show a part of it
        raise recipe_error([Fault(Place(label, line), (), _SECRET_FOUND) for line in found])
    return text


def _recipes_beside(path: Path) -> list[str]:
    try:
        return sorted(p.name for p in path.parent.iterdir() if p.suffix in (".yaml", ".yml"))
    except OSError:
        return []


def _override(tree: Node, text: str, faults: list[Fault]) -> Node:
    """``tree`` with one ``a.b=c`` applied."""
    where, equals, value = text.partition("=")
    keys = where.strip().split(".")
    if _SECRET.search(text):
        at = "..." if _SECRET.search(where) else where
        raise recipe_error([Fault(Place(shown(f"--set {at}=...", 100)), (), _SECRET_FOUND)])
    secret_name = SECRET_NAME.search(keys[-1])
    place = Place(shown(f"--set {where}{equals}{'...' if secret_name else value}", 100))
    if not equals or not all(keys) or len(keys) > MAX_DEPTH:
        faults.append(Fault(place, (), "a setting has the form section.key=value"))
        return tree
    if keys[0] == "extends":
        faults.append(Fault(place, ("extends",), "only a file extends another one; write it into the recipe"))
        return tree
    new = replace(read_tree(value, place, faults), place=place)
    return _replaced(tree, keys, new, (), faults)


def _replaced(node: Node, keys: Sequence[str], new: Node, path: tuple[Key, ...], faults: list[Fault]) -> Node:
    if not keys:
        return new
    key, rest = keys[0], keys[1:]
    if isinstance(node.value, list):
        if not re.fullmatch("[0-9]{1,6}", key) or int(key) >= len(node.value):
            there = f"0 to {len(node.value) - 1}" if node.value else "none, the list is empty"
            faults.append(
                Fault(new.place, (*path, key), f"no such entry in the list at {node.place}; allowed: {there}")
            )
            return node
        items = list(node.value)
        items[int(key)] = _replaced(items[int(key)], rest, new, (*path, int(key)), faults)
        return replace(node, value=items)
    if not isinstance(node.value, dict) and node.value is not None:
        faults.append(Fault(new.place, path, f"has no keys: it is {node.describe()} at {node.place}"))
        return node
    entries = dict(node.value or {})
    entries[key] = _replaced(entries.get(key, Node(None, new.place)), rest, new, (*path, key), faults)
    return replace(node, value=entries)


def _refuse_variables(node: Node, path: tuple[Key, ...], faults: list[Fault]) -> None:
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            _refuse_variables(child, (*path, key), faults)
    elif isinstance(node.value, list):
        for index, child in enumerate(node.value):
            _refuse_variables(child, (*path, index), faults)
    elif isinstance(node.value, str):
        is_prose = any(c.isspace() for c in node.value)
        match = (_VARIABLE_IN_PROSE if is_prose else _VARIABLE).search(node.value)
        if match:
            name = shown(match[0] + ("}" if "{" in match[0] else ""), 60)
            text = f"{name} looks like an environment variable, which a recipe does not read; write the value here"
            faults.append(Fault(node.place, path, f"{text}, or give it by --set {dotted(path)}=VALUE"))
