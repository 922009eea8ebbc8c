"""From pydantic's validation errors to where, what, got, allowed, and the likely intention."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, get_args

from factory.recipe_fields import (
    Spot,
    all_keys,
    allowed,
    field_docs,
    find_spot,
    kind_of,
    kinds_of,
    required_type,
    section_models,
)
from factory.yaml_tree import Fault, Node, Place, plain_scalar, quoted

SECRET_NAME = re.compile(r"key|secret|passw|credential|authorization", re.IGNORECASE)
"""Values under such names are not shown."""


def explain(detail: Any, tree: Node) -> Fault | None:
    """One entry of ``ValidationError.errors()`` as a fault; None when it only follows from another one."""
    spot = find_spot(detail["loc"], tree)
    name, node = detail["type"], spot.node
    if name in ("union_tag_invalid", "union_tag_not_found"):
        return _wrong_kind(spot)
    if name == "too_short" and node and node.value:  # pydantic counts valid entries only
        return None
    place, text = spot.place, str(detail["msg"])
    if name == "extra_forbidden":
        text = _unknown_key(spot)
    elif name == "missing":
        doc = field_docs(spot.section).get(str(spot.path[-1]), "") if spot.section else ""
        doc = doc.replace("``", "`").rstrip(".")
        text = f"missing; give {allowed(spot.annotation, spot.metadata)}{f' ({doc})' if doc else ''}"
    elif name == "value_error":
        text = str(detail["ctx"]["error"])
        place = _mentioned(spot, text)
    elif node is not None and name == "literal_error" and isinstance(node.value, str):
        text = _unknown_value(node.value, [str(choice) for choice in get_args(required_type(spot.annotation))])
    elif node is not None:
        text = f"got {_got(spot.path, node)}; allowed: {allowed(spot.annotation, spot.metadata)}{_hint(spot)}"
    return Fault(place, spot.path, text)


def _got(path: Sequence[str | int], node: Node) -> str:
    hidden = any(isinstance(key, str) and SECRET_NAME.search(key) for key in path)
    return "a value that is not shown" if hidden else node.describe()


def _mentioned(spot: Spot, text: str) -> Place:
    """The line of the first value that a section's own check names, as ``size`` or ``selector.size``."""
    for word in re.findall(r"[A-Za-z_]\w*(?:\.\w+)*", text):
        node = spot.node
        for key in word.split("."):
            node = node.child(key) if node else None
        if node:
            return node.place
    return spot.place


def _wrong_kind(spot: Spot) -> Fault:
    kinds = sorted(kind for model in section_models(spot.annotation) for kind in kinds_of(model))
    kind = spot.node.child("kind") if spot.node else None
    path = (*spot.path, "kind")
    if kind is None:
        return Fault(spot.place, path, f"missing; allowed: {', '.join(kinds)}")
    if isinstance(kind.value, str):
        return Fault(kind.place, path, _unknown_value(kind.value, kinds))
    return Fault(kind.place, path, f"got {kind.describe()}; allowed: {', '.join(kinds)}")


def _unknown_value(value: str, choices: Sequence[str]) -> str:
    return f"unknown value {quoted(value)}{did_you_mean(value, choices)}  allowed: {', '.join(sorted(choices))}."


def _unknown_key(spot: Spot) -> str:
    key, known = str(spot.path[-1]), sorted(spot.section.model_fields) if spot.section else []
    return f"unknown key{_key_hint(key, known, spot)}  known here: {', '.join(known)}."


def _key_hint(key: str, known: Sequence[str], spot: Spot) -> str:
    if key in ("extends", "defaults"):
        return " - a recipe builds on another one by `extends: other.yaml` at the top of its file."
    owners = [kind_of(model) for model in spot.rivals if key in model.model_fields]
    if owners and spot.section:
        return f" for kind {kind_of(spot.section)}; it belongs to kind {', '.join(owners)}."
    hint = did_you_mean(key, known)
    homes = [path for path in all_keys() if path.rpartition(".")[2] == key]
    if hint == "." and homes:
        return f" - there is {', '.join(homes[:3])}."
    return hint


def did_you_mean(word: str, choices: Sequence[str]) -> str:
    """`` - did you mean "math"?``, or a full stop when nothing is close."""
    import difflib  # needed for errors only

    by_lower = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(word.lower()[:80], list(by_lower), n=1)
    return f' - did you mean "{by_lower[close[0]]}"?' if close else "."


def _hint(spot: Spot) -> str:
    wanted, value = required_type(spot.annotation), spot.node.value if spot.node else None
    if wanted is str and value is not None and not isinstance(value, str):
        return ". Text needs quotes here"
    if wanted in (int, float, bool) and isinstance(value, str):
        if not isinstance(plain_scalar(value)[0], str):
            return ". Write it without quotes"
        if wanted is bool and value.lower() in ("yes", "no", "on", "off"):
            return ". yes, no, on and off are text in YAML 1.2"
    return ""
