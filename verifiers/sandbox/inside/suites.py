"""What test code asks and checks: its free names, its asserts made countable, and its tests that nobody calls.

Part of the process that runs a data set's test code (``tester``); it never runs model-written code. Everything here is
decided from the tests alone: a solution that could choose which of its names are used, or whether the tests count as
run, would decide its own verdict.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import symtable
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

_OF_MEMBERS = {"assertIn": "assertTrue", "assertNotIn": "assertFalse"}
_DATA_METHODS = ("__init__", "__repr__", "__str__", "__eq__", "__hash__", "__lt__")


class NotRunnableError(Exception):
    """The tests want a test framework to call them with values that it has to make."""


def free_names(sources: list[str]) -> set[str]:
    """The names that the sources use and nowhere define at module level."""
    used: set[str] = set()
    defined: set[str] = set()
    for source in sources:
        table = symtable.symtable(source, "<tests>", "exec")
        for symbol in table.get_symbols():
            if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace():
                defined.add(symbol.get_name())
            if symbol.is_referenced():
                used.add(symbol.get_name())
        inner = list(table.get_children())
        while inner:
            scope = inner.pop()
            inner += scope.get_children()
            for symbol in scope.get_symbols():
                if symbol.is_declared_global() and symbol.is_assigned():
                    defined.add(symbol.get_name())
                if symbol.is_global() and symbol.is_referenced():
                    used.add(symbol.get_name())
    return used - defined


def names(tree: ast.AST) -> set[str]:
    """All names that a tree reads."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def called(tree: ast.AST) -> set[str]:
    """The names that a tree calls."""
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {function.id for function in calls if isinstance(function, ast.Name)}


def asserted(tree: ast.AST) -> tuple[set[str], set[str]]:
    """The names that are called within asserts, and those whose value is one whole side of an assert."""
    within: set[str] = set()
    sides: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            within |= called(node.test)
            test = node.test.operand if isinstance(node.test, ast.UnaryOp) else node.test
            parts = [test.left, *test.comparators] if isinstance(test, ast.Compare) else [test]
            sides |= {p.func.id for p in parts if isinstance(p, ast.Call) and isinstance(p.func, ast.Name)}
    return within, sides


def imported(tree: ast.AST) -> set[str]:
    """The modules that a tree imports."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def built(tree: ast.AST, subjects: set[str]) -> set[str]:
    """The variables that hold nothing but objects that the tests have made of a class of the solution's.

    What such an object contains is the class's to say, like the answers of its methods. An object that a function or a
    method returned must not say so: a list may be expected there.
    """
    made: dict[str, set[int]] = {}
    others: set[str] = set()
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign) and _is_making(node.value, subjects):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name) or ast.unparse(target).startswith("self."):
                    made.setdefault(ast.unparse(target), set()).add(id(target))
        elif isinstance(node, ast.arg):
            others.add(node.arg)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            used.add(ast.unparse(node.value))  # a class is known by its capital letter and this
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            name = ast.unparse(node)
            if id(node) not in made.get(name, set()):
                others.add(name)
    return (made.keys() & used) - others


def _is_making(value: ast.expr | None, subjects: set[str]) -> bool:
    function = value.func if isinstance(value, ast.Call) else None
    return isinstance(function, ast.Name) and function.id in subjects and function.id[:1].isupper()


def shared(tree: ast.Module) -> set[str]:
    """Names of the classes that a problem's text defines."""
    return {node.name for node in tree.body if isinstance(node, ast.ClassDef)} | {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and _is_named_tuple(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _is_named_tuple(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and ast.unparse(value.func) in ("namedtuple", "collections.namedtuple")


def data_classes(tree: ast.Module) -> list[ast.stmt]:
    """The tests' own classes that are no more than their attributes: the solution may be given them.

    One with other methods could be the reference, and one with a number or a text in it could hold an expected value:
    these are for the tests alone.
    """
    found: dict[str, ast.stmt] = {}
    twice: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and _is_data_class(node):
            node.body = [part for part in node.body if not isinstance(part, ast.Expr)] or [ast.Pass()]
            twice |= {node.name} & found.keys()
            found[node.name] = node
    known = ast.parse("import dataclasses\nfrom dataclasses import dataclass, field").body
    return [*known, *(node for name, node in found.items() if name not in twice)] if found else []


def _is_data_class(node: ast.ClassDef) -> bool:
    bases = {ast.unparse(base) for base in node.bases}
    decorators = {ast.unparse(d.func if isinstance(d, ast.Call) else d) for d in node.decorator_list}
    return (
        bases <= {"object"}
        and not node.keywords
        and decorators <= {"dataclass", "dataclasses.dataclass"}
        and all(_is_of_data(part) for part in node.body)
    )


def _is_of_data(part: ast.stmt) -> bool:
    if isinstance(part, ast.FunctionDef):
        return part.name in _DATA_METHODS and not part.decorator_list and _says_nothing(part)
    if isinstance(part, ast.Assign):
        return ast.unparse(part.targets[0]) == "__slots__"
    if isinstance(part, ast.AnnAssign):
        return part.value is None or _says_nothing(part.value)
    return isinstance(part, ast.Pass) or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))


def _says_nothing(tree: ast.AST) -> bool:
    constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    if isinstance(tree, ast.FunctionDef) and tree.name in ("__repr__", "__str__"):
        return all(isinstance(value, str) for value in constants)
    return all(value in (None, 0, 1, "") for value in constants)


def without_exit(tree: ast.Module) -> ast.Module:
    """Without an exit as the last statement: it says nothing there, and elsewhere an exit is no pass."""
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr) and isinstance(last.value, ast.Call):
        call = last.value
        is_idle = all(isinstance(argument, ast.Constant) and not argument.value for argument in call.args)
        if is_idle and ast.unparse(call.func) in ("exit", "quit", "sys.exit"):
            tree.body.pop()
    return tree


class Recorder(ast.NodeTransformer):
    """Makes each check count itself, and tests note that they began; for ``assert A == B`` keeps what A and B were.

    A check is an assert statement, a call of a function named ``assert…``, a ``with`` of such a call, and an ``if`` or
    ``try`` that raises: it counts when it has been passed.
    """

    def __init__(self, subjects: set[str], built: set[str]) -> None:
        self._subjects = subjects
        self._built = built
        self.num_checks = 0

    def visit_Compare(self, node: ast.Compare) -> ast.expr:  # noqa: N802
        """``x in s`` asks an object that the tests have built; that of any other value is found out on this side."""
        self.generic_visit(node)
        owner = node.comparators[0]
        if len(node.ops) != 1 or not isinstance(node.ops[0], ast.In | ast.NotIn) or not self._is_built(owner):
            return node
        found: ast.expr = ast.Call(ast.Name("_verifier_in", ast.Load()), [node.left, owner], [])
        if isinstance(node.ops[0], ast.NotIn):
            found = ast.UnaryOp(ast.Not(), found)
        return ast.copy_location(found, node)

    def visit_Call(self, node: ast.Call) -> ast.expr:  # noqa: N802
        """The same for unittest's ``assertIn``."""
        self.generic_visit(node)
        function = node.func
        other = _OF_MEMBERS.get(function.attr) if isinstance(function, ast.Attribute) else None
        if other is not None and len(node.args) > 1 and self._is_built(node.args[1]):
            assert isinstance(function, ast.Attribute)
            function.attr = other
            node.args = [ast.Call(ast.Name("_verifier_in", ast.Load()), node.args[:2], []), *node.args[2:]]
        return node

    def _is_built(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node) in self._built

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:  # noqa: N802
        self.generic_visit(node)
        self.num_checks += 1
        line = ast.Constant(node.lineno)
        test = node.test
        is_direct = ast.Constant(not self._subjects.isdisjoint(names(test)))
        simple = isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq)
        body: list[ast.stmt] = [_call("_verifier_assert", [line])]
        if simple:
            assert isinstance(test, ast.Compare)
            sides = ("_verifier_got", "_verifier_expected")
            for name, value in zip(sides, (test.left, test.comparators[0])):
                body.append(ast.Assign([ast.Name(name, ast.Store())], value))
            loads: list[ast.expr] = [ast.Name(name, ast.Load()) for name in sides]
            body.append(_call("_verifier_sides", loads))
            node.test = ast.Compare(loads[0], [ast.Eq()], [loads[1]])
        body += [node, _call("_verifier_passed", [is_direct])]
        return [ast.copy_location(statement, node) for statement in body]

    def visit_Expr(self, node: ast.Expr) -> Any:  # noqa: N802
        return self._counted(node, _is_assertion(node.value))

    def visit_If(self, node: ast.If) -> Any:  # noqa: N802
        return self._counted(node, _raises(node))

    def visit_Try(self, node: ast.Try) -> Any:  # noqa: N802
        return self._counted(node, _raises(node))

    def visit_With(self, node: ast.With) -> Any:  # noqa: N802
        return self._counted(node, any(_is_assertion(item.context_expr) for item in node.items))

    def _counted(self, node: ast.stmt, is_check: bool) -> Any:
        self.generic_visit(node)
        if not is_check:
            return node
        self.num_checks += 1
        line = ast.Constant(node.lineno)
        body = [_call("_verifier_assert", [line]), node, _call("_verifier_passed", [])]
        return [ast.copy_location(statement, node) for statement in body]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:  # noqa: N802
        return self._noted(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> Any:  # noqa: N802
        return self._noted(node)

    def _noted(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.stmt:
        self.generic_visit(node)
        if node.name.startswith("test"):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            node.body.insert(0, ast.copy_location(_call("_verifier_begun", [ast.Constant(first)]), node))
        return node


def _call(name: str, arguments: list[ast.expr]) -> ast.stmt:
    return ast.Expr(ast.Call(ast.Name(name, ast.Load()), arguments, []))


def _is_assertion(value: ast.expr) -> bool:
    function = value.func if isinstance(value, ast.Call) else None
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name.lower().startswith("assert") or name in ("raises", "fail")


def _raises(node: ast.AST) -> bool:
    return any(
        isinstance(part, ast.Raise | ast.Assert) or (isinstance(part, ast.Expr) and _is_assertion(part.value))
        for part in ast.walk(node)
    )


class Cases:
    """Watches unittest, however the tests start it: what ran, and the first failure that it would keep to itself."""

    def __init__(self, passed: Callable[[], None]) -> None:
        import unittest  # not before tests want it: it costs more than most tests

        self._unittest = unittest
        self._passed = passed
        self._last: BaseException | None = None
        self._ran: set[type] = set()
        self.failure: BaseException | None = None
        self.num_run = 0
        keep = unittest.TestResult._exc_info_to_string  # type: ignore[attr-defined]

        def kept(result: Any, err: Any, test: Any) -> Any:
            self._last = err[1]
            return keep(result, err, test)

        unittest.TestResult._exc_info_to_string = kept  # type: ignore[attr-defined]
        unittest.TestCase.run = self._watched(unittest.TestCase.run, is_case=True)  # type: ignore[method-assign]
        unittest.TestSuite.run = self._watched(unittest.TestSuite.run, is_case=False)  # type: ignore[method-assign]

    def _watched(self, run: Callable[..., Any], is_case: bool) -> Callable[..., Any]:
        def watched(test: Any, result: Any = None, *more: Any) -> Any:
            if result is None:
                result = test.defaultTestResult()
            before, skipped, self._last = _num_bad(result), len(result.skipped), None
            run(test, result, *more)
            if _num_bad(result) > before:
                self.failure = self.failure or self._last or AssertionError("a unittest test failed")
            elif is_case and len(result.skipped) == skipped:
                self.num_run += 1
                self._passed()
            if is_case:
                self._ran.add(type(test))
            return result

        return watched

    def run_left(self, new: dict[str, Any]) -> None:
        """Run the test cases that the tests define and do not run themselves."""
        for value in new.values():
            if isinstance(value, type) and self.is_case(value) and value not in self._ran:
                self._unittest.defaultTestLoader.loadTestsFromTestCase(value).run(self._unittest.TestResult())

    def is_case(self, value: type) -> bool:
        """Whether it is a class of unittest's tests that the tests themselves define."""
        return issubclass(value, self._unittest.TestCase) and value.__module__ == "__main__"


def _num_bad(result: Any) -> int:
    return len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)


def run_functions(new: dict[str, Any], begun: set[int], source: str, cases: Cases | None) -> None:
    """Run the test functions and methods that nobody has called, as pytest finds them."""
    mentioned = names(ast.parse(source)) if new else set()
    for name, value in new.items():
        if isinstance(value, FunctionType) and name.startswith("test"):
            _run(value, value, begun, name in mentioned)
        elif isinstance(value, type) and name.startswith("Test") and not (cases and cases.is_case(value)):
            if value.__module__ != "__main__" or "__init__" in vars(value):
                continue
            _run_class(value, begun)


def _run_class(made: type, begun: set[int]) -> None:
    methods = [(name, value) for name, value in inspect.getmembers(made) if name.startswith("test")]
    methods = [(name, value) for name, value in methods if inspect.isfunction(value) and not _has_begun(value, begun)]
    methods.sort(key=lambda pair: inspect.unwrap(pair[1]).__code__.co_firstlineno)
    if methods and hasattr(made, "setup_class"):
        made.setup_class()
    for name, function in methods:
        instance = made()
        method = getattr(instance, name)
        _prepare(instance, "setup_method", method)
        _run(function, method, set(), False)
        _prepare(instance, "teardown_method", method)


def _prepare(instance: Any, name: str, method: Any) -> None:
    hook = getattr(instance, name, None)
    if hook is not None:
        hook(*([method] if inspect.signature(hook).parameters else []))


def _has_begun(function: Any, begun: set[int]) -> bool:
    return inspect.unwrap(function).__code__.co_firstlineno in begun


def _run(function: Any, target: Any, begun: set[int], is_mentioned: bool) -> None:
    """``is_mentioned``: other code of the tests names it; with parameters, it is then a helper and no test."""
    if _has_begun(function, begun):
        return
    for arguments in _parametrized(function):
        try:
            inspect.signature(target).bind(**arguments)
        except TypeError:
            if is_mentioned:
                return
            raise NotRunnableError(f"{function.__name__} needs arguments of a test framework") from None
        value = target(**arguments)
        if inspect.iscoroutine(value):
            import asyncio  # not before tests want it: it is slow to import

            asyncio.run(value)


def _parametrized(function: Any) -> Iterator[dict[str, Any]]:
    """The arguments that ``pytest.mark.parametrize`` gives."""
    axes = []
    for mark in getattr(function, "pytestmark", []):
        if mark.name == "parametrize" and len(mark.args) == 2:
            wanted = mark.args[0]
            wanted = [part.strip() for part in wanted.split(",")] if isinstance(wanted, str) else list(wanted)
            rows = [row.values if hasattr(row, "marks") else [row] if len(wanted) == 1 else row for row in mark.args[1]]
            axes.append([dict(zip(wanted, row)) for row in rows])
    for choice in itertools.product(*axes):
        yield {name: value for part in choice for name, value in part.items()}
