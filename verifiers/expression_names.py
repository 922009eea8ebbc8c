r"""The commands and words that ``verifiers.expression`` knows, and their equal spellings."""

from __future__ import annotations

import re

_GREEK = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho varrho sigma tau "
    "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Upsilon Phi Psi Omega ell hbar"
)
LETTERS = {name: f"\\{name}" for name in _GREEK.split()} | {
    "varepsilon": "\\epsilon",
    "vartheta": "\\theta",
    "varphi": "\\phi",
    "varrho": "\\rho",
}
"""Commands that are names, with the one spelling that is compared."""

FUNCTIONS = frozenset(
    [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "arcsin",
        "arccos",
        "arctan",
        "arccot",
        "sinh",
        "cosh",
        "tanh",
        "coth",
        "ln",
        "log",
        "lg",
        "exp",
        "abs",
        "floor",
        "ceil",
        "arsinh",
        "arcosh",
        "artanh",
    ]
)
OPAQUE_FUNCTIONS = frozenset(["f", "g", "h", "F", "G", "H"])
r"""Names that, before a bracket, are functions of which nothing is known."""

OF_SEVERAL = frozenset(["min", "max", "gcd", "lcm"])
r"""Functions of two and more arguments."""

WHOLE_NUMBERS = frozenset(["n", "m", "k", "N", "M", "K"])
r"""Names that, under a floor or ceiling, stand for integers."""

ACCENTS = {
    "vec": "",
    "mathbf": "",
    "boldsymbol": "",
    "bm": "",
    "mathrm": "",
    "mathit": "",
    "mathcal": "cal ",
    "hat": "hat ",
    "bar": "bar ",
    "overline": "bar ",
    "tilde": "tilde ",
    "dot": "dot ",
    "ddot": "ddot ",
}
r"""Commands around one letter, with what they add to its name: ``\vec v`` and ``v`` are the same name."""

SAME_COMMAND = {
    "dfrac": "frac",
    "tfrac": "frac",
    "cfrac": "frac",
    "dbinom": "binom",
    "tbinom": "binom",
    "cdot": "*",
    "times": "*",
    "ast": "*",
    "div": "/",
    "vert": "|",
    "mid": "|",
    "lVert": "|",
    "rVert": "|",
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "asinh": "arsinh",
    "acosh": "arcosh",
    "atanh": "artanh",
    "arcsinh": "arsinh",
    "arccosh": "arcosh",
    "arctanh": "artanh",
    "tg": "tan",
    "ctg": "cot",
    "arctg": "arctan",
    "cosec": "csc",
}
_OTHERS = (
    "frac binom sqrt pi circ degree prime choose lfloor rfloor lceil rceil lvert rvert max min odot oplus star perp "
    "parallel infty gcd lcm"
)
_KNOWN = frozenset([*LETTERS, *FUNCTIONS, *ACCENTS, *SAME_COMMAND, *_OTHERS.split(), "|"])
_NOT_SPLIT = (
    "Im Re angle approx arg begin bmod cap cdots cong cup deg det dim dots emptyset end equiv exists forall ge "
    "geq iint in inf int land langle ldots le leq lim lor mathbb mathop mod mp nabla ne neg neq notin oint "
    "operatorname overrightarrow partial perp pitchfork pm pmod prec prod propto rangle setminus sim subset succ "
    "sum sup text textbf to triangle underline"
)
_NEVER_A_PREFIX = frozenset(_NOT_SPLIT.split())
_WORDS = sorted([*FUNCTIONS, "sqrt", "pi", "asin", "acos", "atan", "sinh", "tg", "ctg", "arctg"], key=len, reverse=True)
WORD = re.compile("|".join(_WORDS))
"""What letters without a backslash can be."""


def known_command(name: str) -> str | None:
    r"""The command at the beginning of ``name``: all of it, or what ran into a name (``omegat``); else None."""
    if name in _KNOWN:
        return name
    if name in _NEVER_A_PREFIX:
        return None
    for length in range(len(name) - 1, max(len(name) - 4, 1), -1):
        if name[:length] in _KNOWN and name[:length] != "|":
            return name[:length]
    return None
