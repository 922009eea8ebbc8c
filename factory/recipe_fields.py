"""What a recipe may hold at each place, read off the sections' own classes: nothing here knows a key by name."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel

from factory.recipe import Recipe
from factory.yaml_tree import Key, Node, Place


class Spot(NamedTuple):
    """What pydantic calls a location, in the user's terms."""

    path: tuple[Key, ...]
    """As written: without the tags that pydantic puts in for the chosen variant of a section."""
    annotation: Any
    """Type wanted there; None when the key is unknown."""
    metadata: tuple[Any, ...]
    """Bounds on it."""
    section: type[BaseModel] | None
    """The section that holds the last key."""
    rivals: tuple[type[BaseModel], ...]
    """The other variants of that section, where ``kind`` chooses among several."""
    node: Node | None
    """What was written there."""
    place: Place
    """Of the node, or of the innermost section that was written."""


def find_spot(loc: Sequence[Key], tree: Node) -> Spot:
    """Follow one of pydantic's locations through the recipe's classes and the tree at once."""
    spot = Spot((), Recipe, (), None, (), tree, tree.place)
    rivals: tuple[type[BaseModel], ...] = ()
    for key in loc:
        models = section_models(spot.annotation)
        tags = {kind: model for model in models for kind in kinds_of(model)}
        if len(models) > 1 and key in tags:  # not a key of the recipe: names the variant
            rivals = tuple(model for model in models if model is not tags[str(key)])
            spot = spot._replace(annotation=tags[str(key)])
            continue
        section = models[0] if models else None
        info = section.model_fields.get(str(key)) if section else None
        annotation, metadata = (info.annotation, tuple(info.metadata)) if info else (_entry_type(spot.annotation), ())
        node = spot.node.child(key) if spot.node else None
        place = node.place if node else spot.place
        spot = Spot((*spot.path, key), annotation, metadata, section, rivals, node, place)
        rivals = ()
    return spot


def required_type(annotation: Any) -> Any:
    """``X`` for ``X | None``, and without ``Annotated``."""
    if get_origin(annotation) is Annotated:
        return required_type(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        rest = [a for a in get_args(annotation) if a is not NoneType]
        return required_type(rest[0]) if len(rest) == 1 else annotation
    return annotation


def section_models(annotation: Any) -> tuple[type[BaseModel], ...]:
    """The sections that a type admits; several when ``kind`` chooses among them."""
    wanted = required_type(annotation)
    if get_origin(wanted) in (Union, UnionType):  # an option may be a union with a name of its own
        return tuple(model for option in get_args(wanted) for model in section_models(option))
    return (wanted,) if isinstance(wanted, type) and issubclass(wanted, BaseModel) else ()


def kind_of(model: type[BaseModel]) -> str:
    """The ``kind`` that chooses this variant (of several, all of them); empty for a section without variants."""
    return " or ".join(kinds_of(model))


def kinds_of(model: type[BaseModel]) -> tuple[str, ...]:
    """Each ``kind`` that chooses this variant."""
    field = model.model_fields.get("kind")
    return tuple(map(str, get_args(field.annotation))) if field else ()


def _entry_type(annotation: Any) -> Any:
    """``X`` for ``tuple[X, ...]``, else None."""
    wanted = required_type(annotation)
    return get_args(wanted)[0] if get_origin(wanted) is tuple else None


def allowed(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """What a field takes, in words."""
    wanted, models = required_type(annotation), section_models(annotation)
    if get_origin(wanted) is Literal:
        text = ", ".join(sorted(str(choice) for choice in get_args(wanted)))
    elif get_origin(wanted) is tuple:
        text = f"a list, each entry {allowed(get_args(wanted)[0])}"
        text += ", at least one" if any(getattr(m, "min_length", None) for m in metadata) else ""
    elif len(models) > 1:
        text = f"a section with kind: {' or '.join(sorted(kind for model in models for kind in kinds_of(model)))}"
    elif models:
        text = f"a section with {', '.join(sorted(models[0].model_fields))}"
    else:
        names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
        text = names.get(wanted, str(wanted)) + "".join(_bounds(metadata))
    return text + (", or null" if NoneType in get_args(annotation) else "")


def _bounds(metadata: Sequence[Any]) -> Iterator[str]:
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "pattern": "matching"}
    for item in metadata:
        for name, word in words.items():
            bound = getattr(item, name, None)
            if bound is not None:
                yield f", {word} {bound}"
        if getattr(item, "min_length", None) == 1:
            yield ", not empty"


@cache
def all_keys() -> tuple[str, ...]:
    """Every key of a recipe as ``section.key``; ``*`` stands for a list's index."""

    def below(annotation: Any, prefix: str, above: tuple[type[BaseModel], ...]) -> Iterator[str]:
        entry = _entry_type(annotation)
        if entry is not None:
            yield from below(entry, f"{prefix}*.", above)
        for model in section_models(annotation):
            if model in above:  # a section may hold itself (a verifier of verifiers): once is enough
                continue
            for name, info in model.model_fields.items():
                yield prefix + name
                yield from below(info.annotation, f"{prefix}{name}.", (*above, model))

    return tuple(dict.fromkeys(below(Recipe, "", ())))


def recipe_schema() -> dict[str, Any]:
    """JSON Schema of a recipe file; each key is described by the docstring under its field.

    The descriptions are read from the source here and not by pydantic's option for it, which would read it at every
    import.
    """
    schema = Recipe.model_json_schema()
    for model in _all_sections(Recipe):
        part = schema if model is Recipe else schema["$defs"][model.__name__]
        for name, doc in field_docs(model).items():
            part["properties"][name]["description"] = doc
        if kind_of(model):
            part["required"] = sorted({"kind", *part.get("required", ())})
    file: dict[str, Any] = {"type": "string", "minLength": 1}
    text = "Recipe or recipes that this one builds on, relative to this file: mappings are merged, all else replaced."
    schema["properties"]["extends"] = {"anyOf": [file, {"type": "array", "items": file}], "description": text}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _all_sections(annotation: Any, seen: set[type[BaseModel]] | None = None) -> set[type[BaseModel]]:
    """Every model below an annotation; ``seen`` ends the walk where a model holds itself (verifiers of verifiers)."""
    seen = set() if seen is None else seen
    entry = _entry_type(annotation)
    if entry is not None:
        _all_sections(entry, seen)
    for model in set(section_models(annotation)) - seen:
        seen.add(model)
        for info in model.model_fields.values():
            _all_sections(info.annotation, seen)
    return seen


@cache
def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """Field name -> the string literal under it, base classes included; empty where there is no source to read."""
    docs: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if issubclass(cls, BaseModel) and cls is not BaseModel:
            docs |= _class_docs(cls.__module__).get(cls.__name__, {})
    return docs


@cache
def _class_docs(module: str) -> dict[str, dict[str, str]]:
    """Class name -> field name -> docstring, for one module."""
    try:
        source = ast.parse(inspect.getsource(sys.modules[module]))
    except OSError:
        return {}
    return {
        node.name: {
            item.target.id: " ".join(after.value.value.split())
            for item, after in zip(node.body, node.body[1:])
            if isinstance(item, ast.AnnAssign)
            and isinstance(item.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        }
        for node in source.body
        if isinstance(node, ast.ClassDef)
    }
