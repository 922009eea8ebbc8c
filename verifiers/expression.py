r"""Read one mathematical expression, LaTeX or plain text, into a tree. No evaluation, no sympy, bounded time.

The reader is strict: what it does not know for certain it refuses (``UnreadableError``), and where a notation has two
common readings (``1/2x``, ``\sin x y``) it marks the result ``uncertain`` and can be asked for the other one.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

from verifiers.expression_names import ACCENTS, FUNCTIONS, LETTERS, OF_SEVERAL, OPAQUE_FUNCTIONS, WHOLE_NUMBERS
from verifiers.expression_tokens import Token, UnreadableError, prepare, tokens_of

__all__ = ["Expression", "Node", "Reading", "UnreadableError", "names_in", "read_expression"]

LONGEST = 1000
_DEEPEST = 40

Node = tuple[Any, ...]
"""``(kind, *operands)``; the kinds are those that ``_Reader`` names."""


class Reading(NamedTuple):
    """Which of two common readings is meant where there are two."""

    short_arguments: bool = False
    r"""``\sin x y`` is :math:`y \sin x` and not :math:`\sin(xy)`."""
    long_denominators: bool = False
    """``1/2x`` is 1/(2x) and not x/2."""
    products: bool = False
    """``h(a+b)`` is a product and not a function."""


class Expression(NamedTuple):
    """A tree with what must be known about it before it is evaluated."""

    tree: Node
    symbols: frozenset[str]
    integers: frozenset[str]
    """Symbols that can only stand for integers."""
    has_decimal: bool
    has_bare_log: bool
    has_degree: bool
    has_steps: bool
    """A floor, ceiling, minimum, maximum or common divisor occurs."""
    is_complex: bool
    """The imaginary unit occurs."""
    uncertain: bool


_CLOSERS = {"(": ")", "[": "]", "{": "}"}
_STARTS = frozenset(["number", "command", "word", "(", "[", "{"])


def read_expression(text: str, reading: Reading = Reading()) -> Expression:  # noqa: B008 - immutable
    """The tree of a whole (cleaned) text. Raises ``UnreadableError``."""
    expression = _read(text, reading)
    if expression is None:
        raise UnreadableError
    return expression


@lru_cache(maxsize=4096)
def _read(text: str, reading: Reading) -> Expression | None:
    if len(text) > LONGEST or not text.strip():
        return None
    try:
        reader = _Reader(tokens_of(prepare(text)), reading)
        tree = reader.whole()
    except UnreadableError:
        return None
    return Expression(
        tree,
        frozenset(reader.symbols),
        frozenset(reader.integers & reader.symbols),
        reader.has_decimal,
        reader.has_bare_log,
        reader.has_degree,
        reader.has_steps,
        reader.is_complex,
        reader.uncertain,
    )


class _Reader:
    """Recursive descent.

    Kinds of nodes: num, sym, const, add, mul, div, pow, fn, root, fact, binom, call, several, degree.
    """

    def __init__(self, tokens: list[Token], reading: Reading, depth: int = 0) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = depth
        self._bars = 0
        self._reading = reading
        self.symbols: set[str] = set()
        self.integers: set[str] = set()
        self.has_decimal = self.has_bare_log = self.has_degree = self.has_steps = False
        self.is_complex = self.uncertain = False

    def whole(self) -> Node:
        tree = self._sum()
        if self._at != len(self._tokens):
            raise UnreadableError
        return tree

    def _kind(self, ahead: int = 0) -> str:
        position = self._at + ahead
        return self._tokens[position].kind if position < len(self._tokens) else ""

    def _text(self, ahead: int = 0) -> str:
        position = self._at + ahead
        return self._tokens[position].text if position < len(self._tokens) else ""

    def _take(self, kind: str) -> str:
        if self._kind() != kind:
            raise UnreadableError
        self._at += 1
        return self._tokens[self._at - 1].text

    def _sum(self) -> Node:
        terms = [self._term()]
        while self._kind() in ("+", "-"):
            negative = self._take(self._kind()) == "-"
            term = self._term()
            terms.append(("neg", term) if negative else term)
        return terms[0] if len(terms) == 1 else ("add", *terms)

    def _term(self) -> Node:
        value = self._factor()
        while True:
            kind = self._kind()
            if kind == "*":
                self._take(kind)
                value = ("mul", value, self._factor())
            elif kind == "/":
                self._take(kind)
                value = ("div", value, self._denominator())
            elif self._starts_factor():
                value = ("mul", value, self._juxtaposed())
            else:
                return value

    def _starts_factor(self) -> bool:
        if self._kind() == "|":
            return self._bars == 0 and self._closes_later()
        return self._kind() in _STARTS and self._text() not in ("choose", "rfloor", "rceil", "rvert")

    def _closes_later(self) -> bool:
        return any(token.kind == "|" for token in self._tokens[self._at + 1 :])

    def _juxtaposed(self) -> Node:
        if self._kind() == "number":  # x2 is x^2 to some and x_2 to others, "2 3" is 23 or a list
            previous = self._tokens[self._at - 1]
            if previous.kind not in (")", "}", "]"):
                raise UnreadableError
        return self._factor()

    def _denominator(self) -> Node:
        value = self._factor()
        if self._starts_factor() and self._kind() != "|":
            self.uncertain = True
            while self._reading.long_denominators and self._starts_factor():
                value = ("mul", value, self._juxtaposed())
        return value

    def _factor(self) -> Node:
        negative = False
        while self._kind() in ("+", "-"):
            negative ^= self._take(self._kind()) == "-"
        value = self._power()
        return ("neg", value) if negative else value

    def _power(self) -> Node:
        value = self._postfixed(self._atom())
        if self._kind() in ("power", "^"):
            self._at += 1
            exponent = self._exponent()
            if self._kind() in ("power", "^"):
                raise UnreadableError
            if exponent == ("degree",):
                self.has_degree = True
                return ("mul", value, exponent)
            self._note_exponent(value, exponent)
            value = self._postfixed(("pow", value, exponent))
        return value

    def _note_exponent(self, base: Node, exponent: Node) -> None:
        if base[0] == "neg" or (base[0] == "num" and base[1] < 0):
            self.integers |= names_in(exponent)

    def _postfixed(self, value: Node) -> Node:
        while self._kind() == "!" or (self._kind() == "command" and self._text() == "degree"):
            if self._kind() == "!":
                self._take("!")
                if value[0] == "fact":
                    raise UnreadableError
                self.integers |= names_in(value)
                value = ("fact", value)
            else:
                self._at += 1
                self.has_degree = True
                value = ("mul", value, ("degree",))
        return value

    def _exponent(self) -> Node:
        if self._kind() == "command" and self._text() == "circ":
            self._at += 1
            return ("degree",)
        if self._kind() == "{" and self._text(1) == "circ" and self._kind(2) == "}":
            self._at += 3
            return ("degree",)
        if self._kind() in ("+", "-"):
            negative = self._take(self._kind()) == "-"
            if self._kind(1) in ("word", "command"):
                self.uncertain = True
            value = self._atom()
            return ("neg", value) if negative else value
        return self._atom()

    def _atom(self) -> Node:
        self._depth += 1
        if self._depth > 2 * _DEEPEST:
            raise UnreadableError
        value = self._one()
        self._depth -= 1
        return value

    def _one(self) -> Node:
        kind = self._kind()
        if kind == "number":
            return self._number()
        if kind in _CLOSERS:
            return self._group()
        if kind == "|":
            return self._between_bars()
        if kind == "word":
            return self._name(self._take("word"))
        if kind == "command":
            return self._command(self._take("command"))
        raise UnreadableError

    def _number(self) -> Node:
        text = self._take("number").replace(",", "")
        self.has_decimal |= "." in text
        value = Fraction(text)
        if self._text() == "frac" and value.denominator == 1 and "." not in text:
            fraction = self._mixed_fraction()
            if fraction is not None:
                return ("num", value + fraction)
        return ("num", value)

    def _mixed_fraction(self) -> Fraction | None:
        r"""The fraction of ``3\frac{1}{2}``, if the two are a mixed number."""
        kinds = [self._kind(i) for i in range(1, 7)]
        if kinds == ["{", "number", "}", "{", "number", "}"]:
            top, bottom = self._text(2), self._text(5)
            length = 7
        elif kinds[0] == "number" and len(self._text(1)) == 2:
            top, bottom = self._text(1)[0], self._text(1)[1]
            length = 2
        else:
            return None
        if not (top.isdigit() and bottom.isdigit()) or int(bottom) == 0:
            return None
        if int(top) >= int(bottom):
            self.uncertain = True
            return None
        self._at += length
        return Fraction(int(top), int(bottom))

    def _group(self) -> Node:
        opening = self._take(self._kind())
        bars, self._bars = self._bars, 0
        value = self._sum()
        if self._kind() == "command" and self._text() == "choose":
            self._at += 1
            value = self._binomial(value, self._sum())
        self._bars = bars
        self._take(_CLOSERS[opening])
        return value

    def _between_bars(self) -> Node:
        self._take("|")
        self._bars += 1
        if self._bars > 1:
            raise UnreadableError
        value = self._sum()
        self._take("|")
        self._bars -= 1
        return ("fn", "abs", value)

    def _binomial(self, top: Node, bottom: Node) -> Node:
        self.integers |= names_in(top) | names_in(bottom)
        return ("binom", top, bottom)

    def _argument(self) -> Node:
        r"""What a command takes: a group, or one digit, letter or command (``\frac12``)."""
        kind = self._kind()
        if kind == "{":
            return self._group()
        if kind == "number":
            text = self._text()
            if not text[0].isdigit() or "." in text or "," in text:
                raise UnreadableError
            if len(text) > 1:
                self._tokens[self._at] = Token("number", text[1:])
            else:
                self._at += 1
            return ("num", Fraction(int(text[0])))
        if kind in ("word", "command"):
            return self._atom()
        raise UnreadableError

    def _name(self, letter: str) -> Node:
        name = letter
        while self._kind() in ("_", "subscript", "'"):
            kind = self._kind()
            text = self._take(kind)
            name += "'" if kind == "'" else "_" + (self._subscript() if kind == "_" else text.replace("\\", ""))
        if self._kind() in ("power", "^") and self._is_prime():
            name += "'"
        if name == "e":
            return ("const", "e")
        if name == "i":
            self.is_complex = True
            return ("const", "i")
        if letter in OPAQUE_FUNCTIONS and self._kind() == "(" and not (self._reading.products and letter != "f"):
            values = self._arguments()
            self.uncertain |= letter != "f" and len(values) == 1
            return ("call", name, *values)
        if self._kind() == "(" and self._lists_arguments():
            return self._call_of_several(name)
        self.symbols.add(name)
        return ("sym", name)

    def _lists_arguments(self) -> bool:
        """Whether the bracket that opens here holds several things."""
        depth = 0
        for token in self._tokens[self._at :]:
            depth += (token.kind in _CLOSERS) - (token.kind in _CLOSERS.values())
            if depth == 0 or (depth == 1 and token.kind == ","):
                return depth == 1
        return False

    def _arguments(self) -> list[Node]:
        """What a pair of brackets holds, one and more, with commas between them."""
        opening = self._take(self._kind())
        if opening not in ("(", "{"):
            raise UnreadableError
        bars, self._bars, start = self._bars, 0, self._at
        values = [self._sum()]
        while self._kind() == ",":
            self._take(",")
            values.append(self._sum())
        numbers = [
            token.text for token in self._tokens[start : self._at] if "," in token.text and token.kind == "number"
        ]
        if any(len(values) > 1 or number[0] == "0" for number in numbers):
            raise UnreadableError  # 1,000 beside others: one number or two?
        self._bars = bars
        self._take(_CLOSERS[opening])
        return values

    def _call_of_several(self, name: str) -> Node:
        """``P(x, y)``; ``C(5, 2)`` is a number of choices, and ``t(a, b)`` may be a vector times a number."""
        values = self._arguments()
        has_names = any(map(names_in, values))
        if name == "C" and len(values) == 2 and not has_names:
            return ("binom", *values)
        self.uncertain |= not (has_names and name[0].isupper())
        return ("call", name, *values)

    def _of_several(self, name: str) -> Node:
        if self._kind() not in ("(", "{") or not self._lists_arguments():
            raise UnreadableError
        values = self._arguments()
        if name in ("gcd", "lcm"):
            self.integers |= set().union(*map(names_in, values))
        self.has_steps = True
        return ("several", name, *values)

    def _is_prime(self) -> bool:
        if self._text(1) == "prime":
            self._at += 2
            return True
        if self._kind(1) == "{" and self._text(2) == "prime" and self._kind(3) == "}":
            self._at += 4
            return True
        return False

    def _subscript(self) -> str:
        """What follows a bare underscore: one letter, command or whole number."""
        if self._kind() not in ("number", "word", "command"):
            raise UnreadableError
        return self._take(self._kind())

    def _command(self, name: str) -> Node:
        if name in LETTERS:
            return self._name(LETTERS[name])
        if name == "pi":
            return ("const", "pi")
        if name in ACCENTS:
            return self._accented(name)
        if name == "frac":
            return ("div", self._argument(), self._argument())
        if name == "binom":
            return self._binomial(self._argument(), self._argument())
        if name == "sqrt":
            return self._root()
        if name in ("lfloor", "lceil", "lvert"):
            return self._enclosed(name)
        if name in FUNCTIONS:
            return self._function(name)
        if name in OF_SEVERAL:
            return self._of_several(name)
        raise UnreadableError

    def _enclosed(self, name: str) -> Node:
        value = self._sum()
        if self._take("command") != "r" + name[1:]:
            raise UnreadableError
        if name != "lvert":
            self.has_steps = True
            self.integers |= names_in(value) & WHOLE_NUMBERS
        return ("fn", {"lfloor": "floor", "lceil": "ceil", "lvert": "abs"}[name], value)

    def _accented(self, name: str) -> Node:
        braced = self._kind() == "{"
        if braced:
            self._take("{")
        if self._kind() == "command" and self._text() in LETTERS:
            letter = LETTERS[self._take("command")]
        else:
            letter = self._take("word")
        if braced:
            self._take("}")
        return self._name(ACCENTS[name] + letter)

    def _root(self) -> Node:
        index: Node = ("num", Fraction(2))
        if self._kind() == "[":
            index = self._group()
        if self._kind() == "number":
            self.uncertain |= len(self._text()) > 1
            return ("root", self._number(), index)
        if self._kind() in ("(", "{"):
            return ("root", self._group(), index)
        return ("root", self._argument(), index)

    def _function(self, name: str) -> Node:
        base: Node | None = None
        exponent: Node | None = None
        for _ in range(2):
            if self._kind() in ("power", "^") and exponent is None:
                self._at += 1
                exponent = self._exponent()
            elif self._kind() in ("_", "subscript") and name == "log" and base is None:
                base = self._base()
        argument = self._function_argument()
        self.has_steps |= name in ("floor", "ceil")
        if name == "log" and base is None:
            self.has_bare_log = True
        node: Node = ("fn", name, argument) if base is None else ("logbase", argument, base)
        if exponent == ("neg", ("num", Fraction(1))):
            if name not in ("sin", "cos", "tan"):
                raise UnreadableError
            return ("fn", "arc" + name, argument)
        return node if exponent is None else ("pow", node, exponent)

    def _base(self) -> Node:
        """The base of a logarithm."""
        if self._kind() == "subscript":
            inner = _Reader(tokens_of(self._take("subscript")), self._reading, self._depth + 1)
            tree = inner.whole()
            self.symbols |= inner.symbols
            self.has_decimal |= inner.has_decimal
            return tree
        self._take("_")
        return self._number() if self._kind() == "number" and self._kind(1) == "(" else self._argument()

    def _function_argument(self) -> Node:
        if self._kind() in ("(", "{", "["):
            braced = self._kind() != "{"
            value = self._group()
            if self._kind() in ("power", "^"):
                self.uncertain |= braced
            return value
        negative = self._kind() == "-"
        if negative:
            self._take("-")
        value = self._power()
        is_number = value[0] in ("num", "div")
        while self._continues_argument() and (is_number or not self._reading.short_arguments):
            self.uncertain |= not is_number
            factor = self._power()
            value, is_number = ("mul", value, factor), is_number and factor[0] in ("num", "const")
        self.uncertain |= self._kind() == "/" or (self._continues_argument() and not is_number)
        return ("neg", value) if negative else value

    def _continues_argument(self) -> bool:
        if self._kind() == "word":
            return not (self._text() in OPAQUE_FUNCTIONS and self._kind(1) == "(")
        return self._kind() == "command" and (
            self._text() in LETTERS or self._text() in ("pi", "frac", "sqrt") or self._text() in ACCENTS
        )


def names_in(node: Node) -> set[str]:
    """The symbols of a tree."""
    if node[0] == "sym":
        return {node[1]}
    return set().union(*(names_in(part) for part in node[1:] if isinstance(part, tuple)))
