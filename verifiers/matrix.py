r"""Matrices and vectors as texts, taken apart into their entries."""

from __future__ import annotations

import re
from typing import NamedTuple

_ENVIRONMENT = re.compile(
    r"(?P<factor>[^&]*?)[(\[]?\s*\\begin\s*\{(?P<name>[pbB]?matrix|smallmatrix|array|cases|aligned|vmatrix)\}(?:\s*\{[lcr|\s]*\})?"
    r"(?P<body>(?:(?!\\begin).)*?)\\end\s*\{(?P=name)\}\s*[)\]]?\s*(?P<power>\^\s*\{?\s*(?:T|\\top|\\intercal)\s*\}?)?\s*$",
    re.DOTALL,
)
_ROW_END = re.compile(r"\\\\(?:\[[^\]]*\])?|\\cr(?![A-Za-z])")
_HLINE = re.compile(r"\\hline")
_ANGLED = re.compile(r"\s*(?:\\langle|<)\s*([^<>]*?)\s*(?:\\rangle|>)\s*$")
_LONGEST = 2000
_MOST_ENTRIES = 144


class Matrix(NamedTuple):
    """Rows of entries."""

    rows: tuple[tuple[str, ...], ...]
    kind: str
    """``matrix``, ``vector`` (angle brackets) or ``cases``."""

    @property
    def vector(self) -> tuple[str, ...] | None:
        """The entries of a single row or column, else None."""
        if len(self.rows) == 1:
            return self.rows[0]
        if all(len(row) == 1 for row in self.rows):
            return tuple(row[0] for row in self.rows)
        return None


def read_matrix(text: str) -> Matrix | None:
    r"""The matrix that is all of the text; a factor before it goes into the entries. None for everything else."""
    if len(text) > _LONGEST:
        return None
    angled = _ANGLED.fullmatch(text)
    if angled and "," in angled[1]:
        return Matrix((tuple(p.strip() for p in angled[1].split(",")),), "vector")
    if "\\begin" not in text:
        return _nested(text)
    match = _ENVIRONMENT.fullmatch(text.strip())
    if not match or match["name"] == "vmatrix":
        return None
    body = _HLINE.sub("", match["body"])
    rows = [tuple(cell.strip() for cell in row.split("&")) for row in _ROW_END.split(body) if row.strip()]
    if match["name"] in ("cases", "aligned"):
        return None if match["factor"].strip() else Matrix(tuple(rows), "cases")
    factor = match["factor"].strip().removesuffix("\\cdot").strip()
    if not rows or any(len(row) != len(rows[0]) for row in rows) or len(rows) * len(rows[0]) > _MOST_ENTRIES:
        return None
    if re.search(r"[=<>]", factor) or factor.count("(") != factor.count(")"):
        return None
    if factor:
        factor = "-1" if factor == "-" else factor
        rows = [tuple(rf"({factor}) \cdot ({cell})" for cell in row) for row in rows]
    if match["power"]:
        rows = list(zip(*rows, strict=True))
    return Matrix(tuple(rows), "matrix")


def _nested(text: str) -> Matrix | None:
    """``[[1, 2], [3, 4]]``."""
    inner = re.fullmatch(r"\s*\[\s*((?:\[[^\[\]]*\]\s*,?\s*)+)\]\s*", text) if text.lstrip().startswith("[[") else None
    if not inner:
        return None
    rows = [tuple(c.strip() for c in row.split(",")) for row in re.findall(r"\[([^\[\]]*)\]", inner[1])]
    if any(len(row) != len(rows[0]) for row in rows):
        return None
    return Matrix(tuple(rows), "matrix")
