r"""Units, currencies and percent signs around a number: ``$18``, ``18\text{ cm}^2``, ``5 am``, ``45^\circ``."""

from __future__ import annotations

import re
from typing import NamedTuple

_UNIT_WORDS = {
    "%": "% percent pct percentage",
    "degree": "degree degrees deg",
    "am": "am a.m. a.m",
    "pm": "pm p.m. p.m",
    "mm": "mm millimeter millimeters millimetre millimetres",
    "cm": "cm centimeter centimeters centimetre centimetres",
    "m": "m meter meters metre metres",
    "km": "km kilometer kilometers kilometre kilometres",
    "inch": "inch inches",
    "foot": "foot feet ft",
    "yard": "yard yards yd",
    "mile": "mile miles mi",
    "mg": "mg milligram milligrams",
    "g": "g gram grams",
    "kg": "kg kilogram kilograms",
    "pound": "pound pounds lb lbs",
    "ounce": "ounce ounces oz",
    "second": "s sec second seconds",
    "minute": "min minute minutes mins",
    "hour": "h hr hrs hour hours",
    "day": "day days",
    "week": "week weeks",
    "month": "month months",
    "year": "year years",
    "ml": "ml milliliter milliliters millilitre millilitres",
    "l": "l liter liters litre litres",
    "gallon": "gallon gallons",
    "dollar": "dollar dollars usd $",
    "cent": "cent cents ¢",
    "euro": "euro euros eur €",
    "yen": "yen ¥",
    "rupee": "rupee rupees rs ₹",
    "sterling": "£ gbp",
    "mph": "mph",
    "radian": "radian radians rad",
    "joule": "joule joules",
    "kilojoule": "kj kilojoule kilojoules",
    "newton": "newton newtons",
    "watt": "watt watts",
    "kilowatt": "kw kilowatt kilowatts",
    "volt": "volt volts",
    "pascal": "pa pascal pascals",
    "hertz": "hz hertz",
    "kelvin": "kelvin kelvins",
    "mole": "mol mole moles",
    "ohm": "ohm ohms",
    "nanometer": "nm nanometer nanometers",
    "electronvolt": "ev electronvolt electronvolts",
    "millisecond": "ms millisecond milliseconds",
    "ton": "ton tons tonne tonnes",
    "rpm": "rpm",
    "km/h": "km/h kph kmh",
    "m/s": "m/s",
}
_CANONICAL = {word: unit for unit, words in _UNIT_WORDS.items() for word in words.split()}
_NOT_UNITS = frozenset(
    ["sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "exp", "pi", "sqrt", "or", "and", "mod"]
    + ["i", "e", "x", "y", "z", "n", "k", "t"]
)
_POWERS = {"squared": 2, "square": 2, "sq": 2, "cubic": 3, "cubed": 3}

_CURRENCY = re.compile(r"(?:\\\$|[$€£¥₹]|(?:USD|EUR|GBP|Rs\.?)(?=\s|\d))\s*(?=[-+]?[\d.\\(])")
_PERCENT = re.compile(r"\s*(?:\\?%|\\text\{\s*\\?%\s*\}|(?i:\bpercent(?:age)?)|\bpct)\.?$")
_DEGREE = re.compile(
    r"\s*(?:\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\\degree|°)\s*([CFKcfk]?|\\(?:text|mathrm)\{\s*[CFK]\s*\})$"
)
_WRAPPED = re.compile(
    r"\s*\\(?:text|mathrm|mbox|textbf|textrm|textit|textnormal|operatorname|rm)\s*\{([^{}]{0,80})\}"
    r"((?:\s*(?:\^\s*\{?\s*[-+]?\d\s*\}?|/|\\cdot))?)\.?$"
)
_PLAIN = re.compile(r"(?<=[\d)}.¢])(\s*)([A-Za-z$€£¥¢₹][A-Za-z./ -]{0,60}?)((?:\s*\^\s*\{?\s*\d\s*\}?)?)$")
# A unit that lost its spaces: 15,000kcalm^{-2}yr^{-1}. Short runs of letters may be variables.
_GLUED = re.compile(
    r"(?<=[\d}])(?<!\^\d)(?:[A-Za-z]{4,12}|[A-Za-z]{1,12}(?=\^\{?-\d\}?[A-Za-z]{2}))(?:\^\{?-\d\}?[A-Za-z]{0,12})+$"
)
_TRAILING_SIGN = re.compile(r"\s*(\\\$|[$€£¥¢₹])$")


_NUMERIC_COMMAND = re.compile(r"\\(?:sqrt|frac|pi|cdot|times|div)(?![A-Za-z])")


class WithUnit(NamedTuple):
    """A text split from its unit."""

    core: str
    unit: str | None


def split_unit(text: str) -> WithUnit:
    """Take one unit off the text; ``unit`` is canonical when known, ``?`` when it is some other word."""
    if _CURRENCY.match(text.lstrip("-+ ")):
        sign = text[: len(text) - len(text.lstrip("-+ "))]
        match = _CURRENCY.match(text, len(sign))
        if match:
            symbol = match[0].strip().strip("\\")
            rest = _split_end(sign + text[match.end() :])
            return WithUnit(rest.core, _canonical(symbol))
    return _split_end(text)


def _split_end(text: str) -> WithUnit:
    percent = _PERCENT.search(text)
    if percent and percent.start() > 0:
        return WithUnit(text[: percent.start()].strip(), "%")
    degree = _DEGREE.search(text)
    if degree:
        return WithUnit(text[: degree.start()].strip(), "degree")
    return _split_words(text)


def _split_words(text: str) -> WithUnit:
    wrapped = _WRAPPED.search(text)
    if wrapped and wrapped.start() > 0:
        core, unit = text[: wrapped.start()].strip(), _canonical(wrapped[1], wrapped[2])
        while (wrapped := _WRAPPED.search(core)) and wrapped.start() > 0:  # a compound such as kcal m^{-2} yr^{-1}
            core, unit = core[: wrapped.start()].strip(), "?"
        return WithUnit(core, unit)
    sign = _TRAILING_SIGN.search(text)
    if sign:
        return WithUnit(text[: sign.start()].strip(), _canonical(sign[1].strip("\\")))
    glued = _GLUED.search(text)
    if glued:
        return WithUnit(text[: glued.start()].strip(), "?")
    plain = _PLAIN.search(text)
    if plain and _is_unit(plain[2], spaced=bool(plain[1])):
        return WithUnit(text[: plain.start()].strip(), _canonical(plain[2], plain[3]))
    return WithUnit(text, None)


def _is_unit(words: str, spaced: bool) -> bool:
    """Whether letters after a number are a unit and not a product such as ``5m`` or ``2 sin x``."""
    parts = words.lower().split()
    if any(p in _NOT_UNITS for p in parts):
        return False
    if len(parts) == 1 and parts[0] in _CANONICAL:
        return len(parts[0]) > 1 or spaced  # "5m" may be five times m
    return spaced and len(parts[0]) > 2


def _canonical(words: str, power: str = "") -> str:
    parts = (
        words.lower().replace(".", " ").split() if words.strip().lower() not in _CANONICAL else [words.strip().lower()]
    )
    exponent = next((_POWERS[p] for p in parts if p in _POWERS), 0)
    parts = [p for p in parts if p not in _POWERS]
    if exponent == 0:
        digit = re.search(r"\d", power)
        exponent = int(digit[0]) if digit else 1
    if len(parts) != 1 or parts[0] not in _CANONICAL:
        return "?"
    return _CANONICAL[parts[0]] + (f"^{exponent}" if exponent > 1 else "")


def numeric_core(text: str) -> WithUnit:
    """The text without its unit where the rest holds no letters: ``2\\sqrt{3}`` of ``2\\sqrt{3} cm``."""
    core, unit = split_unit(text)
    if unit is None or not core or re.search("[A-Za-z]", _NUMERIC_COMMAND.sub(" ", core)):
        return WithUnit(text, None)
    return WithUnit(core, unit)


def units_contradict(unit: str | None, other: str | None) -> bool:
    """Whether both are known and differ. A missing or unknown unit contradicts nothing; percent is no unit here."""
    return len({u for u in (unit, other) if u not in (None, "?", "%")}) > 1
