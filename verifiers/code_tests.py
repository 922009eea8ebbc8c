"""The tests of a programming problem, in the forms in which data sets publish them."""

from __future__ import annotations

import ast
import base64
import binascii
import json
import pickletools
import zlib
from functools import lru_cache
from typing import Any, NamedTuple

from verifiers.sandbox.inside import values

_SUITES = ("public_tests", "private_tests", "generated_tests")
_WRAPPERS = ("tests", "input_output", "test_cases", "unit_tests", "public_test_cases")
_NAMES = ("fn_name", "func_name", "function_name", "entry_point")
_LONGEST_NAME = 200
_LARGEST_PACKED, _LARGEST_UNPACKED = 128 * 2**20, 512 * 2**20
_PLAIN_OPCODES = ("PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "STOP")


class UnusableTestsError(ValueError):
    """The reference is no set of tests that can be run."""


class ScriptTests(NamedTuple):
    """A program's standard input and the output expected for it."""

    inputs: list[str]
    outputs: list[str]
    float_tolerance: float | None


class FunctionTests(NamedTuple):
    """Calls of a method of ``class Solution``, or of a function, and the values expected."""

    name: str
    arguments: list[Any]
    """Per test the positional arguments, as plain Python values."""
    outputs: list[list[Any]]
    """Per test the values of which one is expected."""
    float_tolerance: float | None


class AssertTests(NamedTuple):
    """Python code that asserts."""

    setup: str
    prompt: str
    """The problem's text as code, whose helpers the tests may use."""
    tests: list[str]
    entry_point: str | None
    is_check: bool
    """``setup`` defines ``check``, and the only test is to call it with the entry point."""


CodeTests = ScriptTests | FunctionTests | AssertTests


@lru_cache(maxsize=8)
def parsed(source: str) -> ast.Module:
    """The tree of test code, which is looked at several times in a row; not to be changed."""
    return ast.parse(source)


def parse_tests(gold: str) -> CodeTests:
    """Read a reference. Raises ``UnusableTestsError``; the forms are listed in docs/code_verdicts.md."""
    try:
        data = json.loads(gold)
    except (ValueError, RecursionError) as error:
        raise UnusableTestsError(f"not JSON: {error}") from None
    try:
        return _read(data, {})
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnusableTestsError(f"not a form of tests that is known here: {type(error).__name__}: {error}") from None


def _read(data: Any, around: dict[str, Any]) -> CodeTests:
    if isinstance(data, str):
        try:
            data = json.loads(data)
        except ValueError:
            raise UnusableTestsError("the tests are neither JSON nor a table") from None
    if isinstance(data, list):
        return _from_rows(data, around)
    if not isinstance(data, dict):
        raise UnusableTestsError(f"the tests are a {type(data).__name__}")
    about = {**around, **data}
    if isinstance(data.get("metadata"), dict | str):
        about = {**_table(data["metadata"]), **about}
    if "inputs" in data and "outputs" in data:
        return _from_columns(data["inputs"], data["outputs"], about)
    if "test_code" in data or isinstance(data.get("test"), str):
        return _from_code(str(data.get("test_code") or data.get("test")), about)
    if "test_list" in data:
        return _from_asserts(data["test_list"], about)
    if any(suite in data for suite in _SUITES):
        return _from_suites(data, about)
    if isinstance(data.get("functional"), str):
        return _from_code(data["functional"], about)
    if "private_test_cases" in data:
        return _from_rows(_rows(data.get("public_test_cases")) + _rows(data["private_test_cases"]), about)
    for wrapper in _WRAPPERS:
        if wrapper in data:
            return _read(data[wrapper], about)
    raise UnusableTestsError(f"no tests in a table with the keys {', '.join(sorted(map(str, data)))[:200]}")


def _table(data: Any) -> dict[str, Any]:
    table = json.loads(data) if isinstance(data, str) and data.strip().startswith("{") else data
    return table if isinstance(table, dict) else {}


def _from_suites(data: dict[str, Any], about: dict[str, Any]) -> CodeTests:
    inputs: list[Any] = []
    outputs: list[Any] = []
    for suite in _SUITES:
        tests = data.get(suite) or {}
        inputs += tests.get("input", [])
        outputs += tests.get("output", [])
    return _from_columns(inputs, outputs, about)


def _rows(packed: Any) -> list[Any]:
    """LiveCodeBench's test cases: rows, or JSON of them, or (the private ones) that as a pickle, zlib'd, in base64."""
    if not isinstance(packed, str):
        return list(packed or [])
    if not packed.lstrip().startswith("["):
        packed = _unpacked(packed)
    try:
        rows = json.loads(packed)
    except ValueError:
        raise UnusableTestsError("test cases that are not JSON") from None
    if not isinstance(rows, list):
        raise UnusableTestsError("test cases that are no list")
    return rows


def _unpacked(packed: str) -> str:
    """The one string in a pickle. Read by its opcodes, for to load a pickle is to run what it says."""
    if len(packed) > _LARGEST_PACKED:
        raise UnusableTestsError("private_test_cases are too large")
    try:
        inflater = zlib.decompressobj()
        data = inflater.decompress(base64.b64decode(packed, validate=True), _LARGEST_UNPACKED)
        if inflater.unconsumed_tail or not inflater.eof:
            raise UnusableTestsError("private_test_cases are too large or cut off")
        texts = []
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in ("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"):
                texts.append(argument)
            elif opcode.name not in _PLAIN_OPCODES:
                raise UnusableTestsError(f"private_test_cases are a pickle of more than a text ({opcode.name})")
    except (ValueError, binascii.Error, zlib.error) as error:
        if isinstance(error, UnusableTestsError):
            raise
        raise UnusableTestsError(f"private_test_cases cannot be unpacked: {error}") from None
    if len(texts) != 1:
        raise UnusableTestsError("private_test_cases are not a pickle of one text")
    return str(texts[0])


def _from_rows(rows: list[Any], about: dict[str, Any]) -> CodeTests:
    if rows and all(isinstance(row, str) for row in rows):
        return _from_asserts(rows, about)
    inputs, outputs = [row["input"] for row in rows], [row["output"] for row in rows]
    kinds = {row.get("testtype") or row.get("type") for row in rows}
    names = {name for row in rows for name in [_name(row)] if name}
    about = {**about, **({"fn_name": names.pop()} if len(names) == 1 else {})}
    if "functional" in kinds and _name(about) is None:
        raise UnusableTestsError("functional tests without the name of the function")
    if kinds == {"stdin"}:
        about = {key: value for key, value in about.items() if key not in _NAMES}
    return _from_columns(inputs, outputs, about)


def _name(about: dict[str, Any]) -> str | None:
    for key in _NAMES:
        name = about.get(key)
        if isinstance(name, str) and name.strip():
            name = name.strip().removeprefix("Solution().").removeprefix("Solution.")
            if not name.isidentifier() or len(name) > _LONGEST_NAME:
                raise UnusableTestsError(f"not the name of a function: {name[:80]!r}")
            return name
    return None


def _tolerance(about: dict[str, Any]) -> float | None:
    tolerance = about.get("float_tolerance")
    if tolerance is None:
        return None
    if not isinstance(tolerance, int | float) or not 0 <= tolerance < 1:
        raise UnusableTestsError(f"float_tolerance must be a number from 0 to below 1, not {tolerance!r}")
    return float(tolerance)


def _from_columns(inputs: Any, outputs: Any, about: dict[str, Any]) -> CodeTests:
    if not isinstance(inputs, list) or not isinstance(outputs, list):
        raise UnusableTestsError("inputs and outputs must be lists")
    if not inputs or len(inputs) != len(outputs):
        raise UnusableTestsError(f"{len(inputs)} inputs and {len(outputs)} outputs")
    name = _name(about)
    if name is None:
        return ScriptTests([_text(item) for item in inputs], [_text(item) for item in outputs], _tolerance(about))
    arguments = [_arguments(item) for item in inputs]
    expected = [_expected(item, isinstance(given, list)) for given, item in zip(inputs, outputs)]
    return FunctionTests(name, arguments, expected, _tolerance(about))


def _text(item: Any) -> str:
    """Standard input or output; APPS has lists of lines in places, SandboxFusion names the stream."""
    if isinstance(item, dict) and len(item) == 1:
        item = item.get("stdin", item.get("stdout", item))
    if isinstance(item, list):
        return "\n".join(_text(line) for line in item)
    return item if isinstance(item, str) else json.dumps(item)


def _arguments(item: Any) -> list[Any]:
    """One JSON value per line (LiveCodeBench), or the list of arguments itself (APPS)."""
    if isinstance(item, list):
        return item
    if not isinstance(item, str):
        raise UnusableTestsError("arguments must be a list, or JSON values one per line")
    try:
        return [json.loads(line) for line in item.split("\n") if line.strip()]
    except ValueError:
        pass
    try:
        return [json.loads(item)]
    except ValueError:
        raise UnusableTestsError(f"arguments that are not JSON: {item[:80]!r}") from None


def _expected(item: Any, is_plain: bool) -> list[Any]:
    """The trees of the values of which one is expected.

    APPS wraps values in a list of one, not everywhere. ``is_plain``: the arguments are values and no JSON text (APPS);
    the output may be either then, so "101" is the number or the text.
    """
    if isinstance(item, str):
        try:
            read = tree(json.loads(item))
        except ValueError:
            return [tree(item)]
        return [read, tree(item)] if is_plain else [read]
    if isinstance(item, list) and len(item) == 1:
        return [tree(item), tree(item[0])]
    return [tree(item)]


def tree(value: Any) -> Any:
    """The tree of a value from JSON. Raises ``UnusableTestsError`` where it is too deep or too large."""
    try:
        return values.Encoder().encode(value)
    except values.NotPlainError as error:
        raise UnusableTestsError(str(error)) from None


def _from_asserts(tests: Any, about: dict[str, Any]) -> AssertTests:
    if not isinstance(tests, list) or not tests or not all(isinstance(test, str) for test in tests):
        raise UnusableTestsError("test_list must be a list of assert statements")
    imports = about.get("test_imports") or []
    setup = [*(imports if isinstance(imports, list) else [imports]), about.get("test_setup_code") or ""]
    return _checked(AssertTests("\n".join(map(str, setup)), _prompt(about), tests, _entry_point(about), False))


def _from_code(code: str, about: dict[str, Any]) -> AssertTests:
    """Test code. Where it defines ``check`` and never calls it, calling it with the entry point is the test."""
    entry_point, prompt = _entry_point(about), _prompt(about)
    try:
        body = parsed(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UnusableTestsError(f"the test code does not compile: {error}") from None
    is_check = any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in body) and not any(
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id == "check"
        for node in body
    )
    if is_check:
        if entry_point is None:
            raise UnusableTestsError("the tests define check(candidate), but there is no entry_point")
        return _checked(AssertTests(code, prompt, [f"check({entry_point})"], entry_point, True))
    return _checked(AssertTests("", prompt, [code], entry_point, False))


def _prompt(about: dict[str, Any]) -> str:
    prompt = about.get("prompt")
    return prompt if isinstance(prompt, str) else ""


def _entry_point(about: dict[str, Any]) -> str | None:
    entry_point = about.get("entry_point")
    return entry_point.strip() or None if isinstance(entry_point, str) else None


def _checked(tests: AssertTests) -> AssertTests:
    for source in (tests.setup, *tests.tests):
        try:
            parsed(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise UnusableTestsError(f"the test code does not compile: {error}") from None
    return tests
