"""Text for the report: hostile text made visible, secrets taken out, numbers as people read them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

MINUS = "\u2212"
NONE = "\u2013"
"""Stands where there is no number."""

_SUSPECT = re.compile(
    # controls but tab and line feed; soft hyphen; bidirectional marks, embeddings, isolates; invisible characters (the
    # two joiners stay: scripts and emoji need them); surrogates, private use, tags, non-characters
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\uf8ff\ufdd0-\ufdef"
    "\ufeff\ufff0-\ufffc\ufffe\uffff\U0001fffe\U0001ffff\U000e0000-\U000e0fff\U000f0000-\U0010ffff]"
    "|[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]{5,}"
)
_SECRET_VALUE = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:sk|pk|gsk|xai|glpat)[-_][A-Za-z0-9_-]{16,}|(?:hf|gh[opsu])_[A-Za-z0-9]{20,}"
    r"|github_pat_\w{20,}|AIza[\w-]{30,})"
    r"|(?i:bearer)\s+[A-Za-z0-9._~+/=-]{8,}"
    r"|(?<=://)[^/\s@]+:[^/\s@]+(?=@)"
)
_SECRET_NAME = r"(?i:(?:api[_-]?key|access[_-]?token|auth[_-]?token|secret|password|passwd))"
_SECRET_KEY = re.compile(_SECRET_NAME + "$")
_SECRET_PAIR = re.compile(rf"({_SECRET_NAME}(?:\s*[=:]\s*|\s+))(\S+)")
REDACTED = "[redacted]"


class Cut(NamedTuple):
    """A long text with its middle left out."""

    head: str
    hidden: int
    """Characters that are not shown; 0 when ``head`` is the whole text."""
    tail: str


def visible(text: str) -> str:
    """Text in which nothing hides: control, bidirectional, invisible and private characters become ``⟨U+202E⟩``.

    Line breaks and tabs stay; ``\\r\\n`` becomes a line break. Lone surrogates, which no encoder accepts, and stacks
    of five or more combining marks, which would paint over other lines, are spelled out too.
    """
    return _SUSPECT.sub(_spell_out, text.replace("\r\n", "\n"))


def _spell_out(match: re.Match[str]) -> str:
    run = match.group()
    if len(run) > 1:
        return f"{run[0]}\u27e8{len(run) - 1} more combining marks\u27e9"
    return f"\u27e8U+{ord(run):04X}\u27e9"


def cut(text: str, head: int, tail: int = 0) -> Cut:
    """At most ``head + tail`` characters from the two ends; reasoning ends in its answer, so the end matters."""
    hidden = len(text) - head - tail
    if hidden <= 0:
        return Cut(text, 0, "")
    return Cut(text[:head], hidden, text[len(text) - tail :] if tail else "")


def redact(value: Any) -> Any:
    """A JSON-like value without anything that looks like a key, password or token.

    Recipes hold only the *name* of the variable with the key; this is for command lines and addresses people typed.
    """
    if isinstance(value, Mapping):
        return {key: _redact_entry(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    if isinstance(value, str):
        return _SECRET_PAIR.sub(rf"\1{REDACTED}", _SECRET_VALUE.sub(REDACTED, value))
    return value


def _redact_entry(key: str, item: Any) -> Any:
    if isinstance(item, str) and _SECRET_KEY.search(key):
        return REDACTED
    return redact(item)


def count(value: float | None) -> str:
    """``1,234``; a fraction keeps three significant digits."""
    if value is None or not math.isfinite(value):
        return NONE
    if float(value).is_integer():
        return f"{int(value):,}".replace("-", MINUS)
    return decimal(value)


def decimal(value: float | None, digits: int = 3) -> str:
    """Three significant digits, without an exponent where people would not write one."""
    if value is None or not math.isfinite(value):
        return NONE
    if value and not 1e-4 <= abs(value) < 1e15:
        text = f"{value:.{digits - 1}e}"
    else:
        places = digits - 1 - math.floor(math.log10(abs(value))) if value else 0
        text = f"{value:,.{max(places, 0)}f}"
    return text.replace("-", MINUS)


def percent(share: float | None) -> str:
    """``41.2%`` of a share between 0 and 1."""
    if share is None or not math.isfinite(share):
        return NONE
    return f"{100 * share:.1f}%".replace("-", MINUS)


def points(difference: float | None) -> str:
    """``+13.8``: a difference of two shares in percentage points."""
    if difference is None or not math.isfinite(difference):
        return NONE
    text = f"{100 * difference:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", MINUS)


def p_value(value: float | None) -> str:
    """``0.012``, ``< 0.001``."""
    if value is None or not math.isfinite(value):
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def seconds(value: float | None) -> str:
    """``0.42 s``, ``12.3 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if value is None or not math.isfinite(value):
        return NONE
    if value < 59.95:
        return f"{value:.1f} s" if value >= 10 else f"{value:.2f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def words(name: str) -> str:
    """A name of the data as words: ``too_easy`` -> ``too easy``."""
    return name.replace("_", " ")


def listing(items: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    names = list(items)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"
