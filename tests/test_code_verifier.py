"""The code verifier: extraction, forms of tests, comparison, reasons, limits. Real sandbox, no doubles."""

from __future__ import annotations

import base64
import json
import os
import pickle
import shutil
import textwrap
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sandbox_attack import descendants

from verifiers.base import VerifierError, VerifyTask
from verifiers.code import CodeVerifier
from verifiers.code_asserts import plan
from verifiers.code_compare import same_output, same_value
from verifiers.code_extract import extract_program
from verifiers.code_tests import AssertTests, FunctionTests, ScriptTests, UnusableTestsError, parse_tests
from verifiers.config import CodeConfig
from verifiers.sandbox import Sandbox, SandboxUnavailableError, host, policy
from verifiers.sandbox.inside import values
from verifiers.verdict import Outcome, Verdict

needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
SQUARE = "n = int(input())\nprint(n * n)"
SCRIPT = {"inputs": ["3\n", "5\n"], "outputs": ["9\n", "25\n"]}


@pytest.fixture(scope="module")
def verifier() -> Iterator[CodeVerifier]:
    made = CodeVerifier(CodeConfig(time_limit_s=1.0, memory_mb=256))
    yield made
    made.close()


def judge(verifier: CodeVerifier, code: str, gold: Any, **fields: Any) -> Verdict:
    response = f"<think>hm</think>Here:\n```python\n{textwrap.dedent(code)}\n```"
    return verifier.verify(VerifyTask("row", response, json.dumps(gold), **fields))


def first_failure(verdict: Verdict) -> dict[str, Any]:
    failure: dict[str, Any] = json.loads(verdict.detail or "{}")["first_failure"]
    return failure


# --- extraction -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "code", "rule"),
    [
        ("```python\na = 1\n```\nthen\n```python\nb = 2\n```", "b = 2\n", "fence_python"),
        ("```py\na = 1\n```\nwhich prints\n```\n1\n```", "a = 1\n", "fence_python"),
        ("```\na = 1\n```", "a = 1\n", "fence"),
        ("```python\na = 1", "a = 1", "fence_open"),
        ("<think>```python\nno = 0\n```</think>```python\nyes = 1\n```", "yes = 1\n", "fence_python"),
        ("1. Do this:\n   ```python\n   if x:\n       y()\n   ```", "if x:\n    y()\n", "fence_python"),
        ("~~~python\ns = '```'\n~~~", "s = '```'\n", "fence_python"),
        ("import sys\nprint(sys.stdin.read())", "import sys\nprint(sys.stdin.read())", "whole"),
        ("```cpp\nint main() {}\n```", None, None),
        ("42", None, None),
        ("I cannot do that.", None, None),
        ("", None, None),
    ],
)
def test_the_last_program_of_the_final_text_is_taken(response: str, code: str | None, rule: str | None) -> None:
    program = extract_program(response)
    assert (program.code, program.rule) == (code, rule)


def test_a_response_that_is_cut_off_is_truncated() -> None:
    assert extract_program("<think>```python\na = 1\n```").truncated
    assert extract_program("```python\na = 1\n```", "length").truncated


def test_fences_without_end_take_linear_time() -> None:
    assert extract_program("```" * 200_000).code is None
    assert extract_program("```python\n" * 100_000).rule == "fence_open"


# --- forms of tests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gold", "kind"),
    [
        (SCRIPT, ScriptTests),
        ({**SCRIPT, "fn_name": None}, ScriptTests),
        ({"tests": SCRIPT}, ScriptTests),
        ({"input_output": json.dumps(SCRIPT)}, ScriptTests),
        ([{"input": "3", "output": "9", "testtype": "stdin"}], ScriptTests),
        (
            {"public_tests": {"input": ["1"], "output": ["1"]}, "private_tests": {"input": [], "output": []}},
            ScriptTests,
        ),
        ({"inputs": [["1", "2"]], "outputs": [["3"]]}, ScriptTests),
        ({"inputs": ["[1]\n2"], "outputs": ["3"], "fn_name": "f"}, FunctionTests),
        ({"inputs": [[[1], 2]], "outputs": [[3]], "fn_name": "f"}, FunctionTests),
        ({"tests": [{"input": "1", "output": "2", "testtype": "functional"}], "fn_name": "f"}, FunctionTests),
        ({"test_code": "assert f(1) == 2"}, AssertTests),
        ({"test": "def check(candidate):\n    assert candidate(1) == 2", "entry_point": "f"}, AssertTests),
        ({"test_list": ["assert f(1) == 2"], "test_setup_code": "", "test_imports": ["import math"]}, AssertTests),
        (["assert f(1) == 2"], AssertTests),
    ],
)
def test_published_forms_are_read(gold: Any, kind: type) -> None:
    assert isinstance(parse_tests(json.dumps(gold)), kind)


@pytest.mark.parametrize(
    "gold",
    [
        "",
        "nonsense",
        "7",
        "[]",
        "{}",
        '{"inputs": [], "outputs": []}',
        '{"inputs": ["1"], "outputs": []}',
        "[1]",
        "null",
    ]
    + ['{"inputs": ["x y"], "outputs": ["1"], "fn_name": "f"}', '{"test_code": "assert ("}', '{"test_list": []}']
    + ['{"test": "def check(candidate): pass"}', '{"inputs": ["1"], "outputs": ["1"], "fn_name": "f(); evil"}']
    + ['[{"input": "1", "output": "1", "testtype": "functional"}]', "[" * 100_000],
)
def test_what_is_no_test_is_unusable(verifier: CodeVerifier, gold: str) -> None:
    with pytest.raises(UnusableTestsError):
        parse_tests(gold)
    verdict = verifier.verify(VerifyTask("row", f"```python\n{SQUARE}\n```", gold))
    assert (verdict.outcome, verdict.reason) == (Outcome.UNVERIFIABLE, "tests_unusable")


def packed(value: Any) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


def test_livecodebench_s_private_tests_are_read_and_never_unpickled_as_code() -> None:
    rows = [{"input": "3", "output": "9", "testtype": "stdin"}]
    more = [{"input": str(n), "output": str(n * n), "testtype": "stdin"} for n in range(20)]
    for private in (packed(json.dumps(more)), json.dumps(more), more):
        tests = parse_tests(json.dumps({"public_test_cases": json.dumps(rows), "private_test_cases": private}))
        assert isinstance(tests, ScriptTests) and len(tests.inputs) == 21

    class Evil:
        def __reduce__(self) -> Any:
            return os._exit, (3,)

    bomb = base64.b64encode(zlib.compress(bytes(600 * 2**20), 9)).decode()
    broken = packed(json.dumps(more))[:40]
    for private in (packed(Evil()), packed([1]), packed("no JSON"), bomb, broken, "nonsense", packed(["a", "b"])):
        with pytest.raises(UnusableTestsError):
            parse_tests(json.dumps({"public_test_cases": json.dumps(rows), "private_test_cases": private}))


def test_sandbox_fusion_and_rllm_forms_are_read() -> None:
    cell = {"input": {"stdin": "3\n"}, "output": {"stdout": "9\n"}}
    assert parse_tests(json.dumps([cell])) == ScriptTests(["3\n"], ["9\n"], None)
    assert isinstance(parse_tests(json.dumps({"functional": "assert f(1) == 2"})), AssertTests)


@needs_bubblewrap
def test_bare_text_of_apps_is_read_both_ways(verifier: CodeVerifier) -> None:
    apps = {"inputs": [[5]], "outputs": ["101"], "fn_name": "f"}
    for value, reason in (("'101'", "passed"), ("101", "passed"), ("'102'", "wrong_output")):
        assert judge(verifier, f"def f(x): return {value}", apps).reason == reason
    lines = {"inputs": ["5"], "outputs": ["101"], "fn_name": "f"}
    assert judge(verifier, "def f(x): return '101'", lines).reason == "wrong_output"


@needs_bubblewrap
def test_a_detail_can_be_stored(verifier: CodeVerifier) -> None:
    verdict = judge(verifier, "def f(x): raise ValueError('\\ud800')", {"test_list": ["assert f(1) == 2"]})
    assert verdict.reason == "runtime_error" and (verdict.detail or "").encode("utf-8")


@needs_bubblewrap
def test_context_managers_slices_and_exception_classes_of_the_solution_work(verifier: CodeVerifier) -> None:
    code = """
        class Full(Exception): pass
        def same(kind): return kind is Full
        class Box:
            def __enter__(self): return self
            def __exit__(self, kind, error, trace): return True
            def __getitem__(self, key): return [1, 2, 3][key]
            def fail(self): raise Full
    """
    tests = """
        with Box() as box:
            assert box[1:] == [2, 3]
        try:
            with Box() as box:
                box.fail()
                assert False
        except Full:
            pass
        assert same(Full)
        with Box():
            assert box[0] == {}
    """
    right, wrong = (textwrap.dedent(tests).format(value) for value in (1, 2))
    assert judge(verifier, code, {"test_code": right}).reason == "passed"
    assert judge(verifier, code, {"test_code": wrong}).reason == "wrong_output"


# --- comparison -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("got", "expected", "same"),
    [
        ("1 2 3 \n4 \n\n", "1 2 3\n4", True),
        ("3.0", "3", True),
        ("1e3 +5", "1000 5", True),
        ("a  b", "a b", False),
        ("1 2", "1\n2", False),
        ("YES", "Yes", False),
        ("0.333333333", "0.3333333333333333", False),
        ("nan", "nan", True),
        ("", "", True),
        ("1", "", False),
        ("ans 1.0", "ans 1", False),
    ],
)
def test_output_is_compared_by_lines_and_numbers(got: str, expected: str, same: bool) -> None:
    assert same_output(got, expected) is same


def test_a_tolerance_is_for_numbers_that_are_not_integers() -> None:
    assert same_output("0.3333333", "0.33333333333", 1e-6)
    assert not same_output("0.3334", "0.33333333333", 1e-6)
    assert not same_output("1000000001", "1000000000", 1e-6)


@pytest.mark.parametrize(
    ("got", "expected", "strict", "json_like"),
    [
        ((1, 2), [1, 2], False, True),
        ([(1, 1)], [[1, 1]], False, True),
        ({1: 2}, {"1": 2}, False, True),
        (1, True, True, True),
        (2.0, 2, True, True),
        ("7", 7, False, False),
        (0.1 + 0.2, 0.3, False, False),
        (float("nan"), float("nan"), False, False),
        ({1, 2}, {2, 1}, True, True),
        ({1, 2}, [1, 2], False, False),
        ({"a": [1]}, {"a": [1.0]}, True, True),
        (None, 0, False, False),
        ([], None, False, False),
        (2**70, 2**70, True, True),
        (b"x", "x", False, False),
    ],
)
def test_values_are_equal_as_python_or_json_has_it(got: Any, expected: Any, strict: bool, json_like: bool) -> None:
    mine, theirs = values.Encoder().encode(got), values.Encoder().encode(expected)
    assert same_value(mine, theirs) is strict
    assert same_value(mine, theirs, json_like=True) is json_like


def test_values_survive_the_way_through_a_tree() -> None:
    for value in (None, 1, 2**80, -1.5, "ü\ud800", (1, [2]), {1: {2, 3}}, b"\xff", 1j, range(3), frozenset([1])):
        assert values.decode(json.loads(json.dumps(values.Encoder().encode(value)))) == value


def test_hostile_trees_are_refused_and_equal_nothing() -> None:
    for tree in ({"i": "zz"}, {"s": [[1]]}, {"h": [1]}, {"q": 1}, {"d": [[1]]}, {"unknown": 1}, {"a": 1, "b": 2}):
        with pytest.raises(values.NotPlainError):
            values.decode(tree)
        assert not same_value(tree, 1) and not same_value(tree, {"d": [[1, 1]]}, json_like=True)


@needs_bubblewrap
def test_a_forged_tree_is_a_wrong_answer_and_no_error(verifier: CodeVerifier) -> None:
    forms = [{"inputs": ["1"], "outputs": ["{}"], "fn_name": "f"}]
    forms += [{"test_list": [test]} for test in ("assert f(1)", "assert f(1) == {1: 2}", "assert abs(f(1) - 1) < 1e-6")]
    trees = [
        '{"d": [1]}',
        '{"d": 1}',
        '{"i": 5}',
        '{"b": 5}',
        "{}",
        '{"s": [{"i": "x"}]}',
        '{"i": "0x" }',
        '{"a": 1, "b": 2}',
    ]
    trees += ['{"i": "0x' + "f" * 5000 + '"}', "[" * 50_000, '{"D": "1e999999999"}', "NaN", '{"F": ["0x1", "0x0"]}']
    for tree in trees:
        code = f"import os\ndef f(x):\n    os.write(3, b'{{\"v\": ' + {tree!r}.encode() + b'}}\\n')\n    os._exit(0)"
        for gold in forms:
            verdict = judge(verifier, code, gold)
            any_true_value_will_do = gold.get("test_list") == ["assert f(1)"]
            allowed = (Outcome.CORRECT, Outcome.INCORRECT) if any_true_value_will_do else (Outcome.INCORRECT,)
            assert verdict.outcome in allowed, (tree[:50], gold, verdict)


def test_only_literal_asserts_are_planned() -> None:
    assert plan(["assert f(1, [2]) == (3,)"], "", None, False) is not None
    assert plan(["assert abs(f(1) - 2 / 3) < 1e-6", "assert not f(x=2)"], "", None, False) is not None
    for test in ("assert f(x) == 1", "assert f(g(1)) == 1", "x = 1\nassert f(1) == x", "assert f(1) == 9 ** 9 ** 9"):
        assert plan([test], "", None, False) is None


# --- verdicts ---------------------------------------------------------------------------------------------------------


@needs_bubblewrap
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (SQUARE, "passed"),
        ("print(9)", "wrong_output"),
        ("print(9", "syntax_error"),
        ("print(9); 1 / 0", "runtime_error"),
        ("print(int(input()) ** 2); raise SystemExit(3)", "runtime_error"),
        ("print(int(input()) ** 2); exit()", "passed"),
        ("while True: pass", "time_limit"),
        ("import time\ntime.sleep(9)", "time_limit"),
        ("x = [0] * 10**10", "memory_limit"),
        ("while True: print('x' * 999)", "output_limit"),
        ("import sys\nfor line in open(0): print(int(line) ** 2)", "passed"),
        ("import sys\nsys.stdin = open('/dev/stdin')\nprint(int(input()) ** 2)", "passed"),
        ("x = " + "(" * 5000, "syntax_error"),
        ("print('\\ud800')", "runtime_error"),
        ("\0", "syntax_error"),
    ],
)
def test_each_way_to_fail_has_its_reason(verifier: CodeVerifier, code: str, reason: str) -> None:
    verdict = judge(verifier, code, SCRIPT)
    assert verdict.reason == reason
    assert verdict.outcome is (Outcome.CORRECT if reason == "passed" else Outcome.INCORRECT)
    assert verdict.reason in verifier.REASONS


@needs_bubblewrap
def test_no_code_and_truncation_have_their_reasons(verifier: CodeVerifier) -> None:
    gold = json.dumps(SCRIPT)
    assert verifier.verify(VerifyTask("row", "No.", gold)).reason == "no_code"
    assert judge(verifier, SQUARE, SCRIPT, finish_reason="length").reason == "truncated"


@needs_bubblewrap
def test_the_first_failing_test_is_kept_and_cut(verifier: CodeVerifier) -> None:
    gold = {"inputs": ["3", "y" * 5000], "outputs": ["9", "z" * 5000]}
    verdict = judge(verifier, "s = input()\nprint(9 if s == '3' else 'x' * 5000)", gold)
    failure = first_failure(verdict)
    assert failure["test"] == 1 and failure["reason"] == "wrong_output"
    assert failure["input"].startswith("yyy") and failure["expected"].startswith("zzz") and failure["got"][:3] == "xxx"
    assert len(verdict.detail or "") < 5000


@needs_bubblewrap
def test_all_tests_mode_gives_the_pass_fraction() -> None:
    every = CodeVerifier(CodeConfig(time_limit_s=1.0, all_tests=True))
    try:
        counts = json.loads(
            judge(every, "print(int(input()) % 3)", {"inputs": list("0123"), "outputs": list("0023")}).detail or ""
        )
        assert (counts["tests"], counts["run"], counts["passed"]) == (4, 4, 2)
        gold = {"test_list": ["assert f(0) == 0", "assert f(1) == 1", "assert f(2) == 2", "assert f(3) == 3"]}
        code = "import os\ndef f(x):\n    if x == 1: os._exit(0)\n    if x == 2: raise ValueError\n    return x"
        counts = json.loads(judge(every, code, gold).detail or "")
        assert (counts["run"], counts["passed"]) == (4, 2)
        gold = {"test_list": [f"y = {x}\nassert f(y) == y" for x in range(4)]}
        counts = json.loads(judge(every, code, gold).detail or "")
        assert (counts["run"], counts["passed"]) == (4, 2)
    finally:
        every.close()


@needs_bubblewrap
def test_functions_and_methods_are_called(verifier: CodeVerifier) -> None:
    gold = {"inputs": ['{"a": [1]}\n"b"', "{}\n2.5"], "outputs": ['[{"a": [1]}, "b"]', "[{}, 2.5]"], "fn_name": "f"}
    assert judge(verifier, "class Solution:\n    def f(self, x: Dict, y) -> List: return x, y", gold).reason == "passed"
    assert judge(verifier, "def f(x, y): return [x, y]", gold).reason == "passed"
    verdict = judge(verifier, "def g(x, y): return [x, y]", gold)
    assert verdict.reason == "runtime_error" and "NameError" in first_failure(verdict)["error"]
    wrapped = {"inputs": [[1], [2]], "outputs": [[1], [2]], "fn_name": "f"}
    assert judge(verifier, "def f(x): return x", wrapped).reason == "passed"


@needs_bubblewrap
def test_a_function_of_the_preamble_is_not_the_solution_s(verifier: CodeVerifier) -> None:
    assert judge(verifier, "x = 1", {"test_list": ["assert gcd(4, 6) == 2"]}).reason == "runtime_error"
    own = "def gcd(a, b): return 2"
    assert judge(verifier, own, {"test_list": ["assert gcd(4, 6) == 2"]}).reason == "passed"
    assert judge(verifier, own, {"test_code": "for a in (4, 8):\n    assert gcd(a, 6) == 2"}).reason == "passed"


@needs_bubblewrap
def test_test_code_sees_the_solution_s_objects(verifier: CodeVerifier) -> None:
    code = """
        class Full(Exception): pass
        class Stack:
            limit = 2
            def __init__(self): self.items = []
            def push(self, x):
                if len(self.items) == self.limit: raise Full('no room')
                self.items.append(x)
                return self
            def __len__(self): return len(self.items)
            def __iter__(self): return iter(self.items)
            def __eq__(self, other): return self.items == other.items
        def sort(x): x[0].sort()
        def numbers():
            yield from (1, 2, 3)
        LIMIT = {'a': (1, 2)}
    """
    tests = """
        stack = Stack()
        assert isinstance(stack.push(1), Stack) and len(stack) == 1
        assert stack.push(2).items == [1, 2] and list(stack) == [1, 2] and 2 in stack
        try:
            stack.push(3)
        except Full as error:
            assert 'no room' in str(error)
        else:
            assert False
        assert Stack().push(1) == Stack().push(1) and not Stack().push(1) == Stack().push(2)
        inner = [3, 1, 2]
        outer = [inner]
        sort(outer)
        assert inner == [1, 2, 3] and outer[0] is inner
        assert list(numbers()) == [1, 2, 3] and LIMIT == {'a': (1, 2)}
        stack.limit = 5
        assert len(stack.push(9)) == 3
    """
    assert judge(verifier, code, {"test_code": textwrap.dedent(tests)}).reason == "passed"
    assert (
        judge(verifier, code.replace("sort()", "sort"), {"test_code": textwrap.dedent(tests)}).reason == "wrong_output"
    )


@needs_bubblewrap
def test_unittest_and_pytest_styles_run(verifier: CodeVerifier) -> None:
    unit = (
        "import unittest\nclass T(unittest.TestCase):\n    def test_f(self): self.assertEqual(f(2), 4)\nunittest.main()"
    )
    functions = "def test_f():\n    x = 2\n    assert f(x) == 4"
    for test_code in (unit, functions):
        assert judge(verifier, "def f(x): return x * x", {"test_code": test_code}).reason == "passed"
        assert judge(verifier, "def f(x): return x + 1", {"test_code": test_code}).outcome is Outcome.INCORRECT


@needs_bubblewrap
def test_tests_that_cannot_be_run_say_nothing_of_the_solution(verifier: CodeVerifier) -> None:
    for test_code in (
        "import no_such_module as m\nassert f(1) == m.x",
        "assert f(lambda x: x) == 1",
        "x = 1 / 0",
        "pass",
    ):
        verdict = judge(verifier, "def f(x): return 1", {"test_code": test_code})
        assert (verdict.outcome, verdict.reason) == (Outcome.UNVERIFIABLE, "tests_unusable"), (test_code, verdict)


@needs_bubblewrap
def test_helpers_of_the_problem_s_text_are_not_the_solution_s(verifier: CodeVerifier) -> None:
    gold = {
        "prompt": "def double(x):\n    return 2 * x\n\ndef half(x):\n    '''Inverse of double.'''\n",
        "test": "def check(candidate):\n    for x in (1, 5):\n        assert double(candidate(x)) == x",
        "entry_point": "half",
    }
    assert judge(verifier, "def double(x): return 2 * x\ndef half(x): return x / 2", gold).reason == "passed"
    lie = "class Any:\n    def __eq__(self, other): return True\ndef double(x): return Any()\ndef half(x): return 0"
    assert judge(verifier, lie, gold).reason == "wrong_output"


@needs_bubblewrap
def test_a_time_limit_for_all_tests_holds() -> None:
    short = CodeVerifier(CodeConfig(time_limit_s=1.0, total_time_limit_s=1.5))
    try:
        gold = {"inputs": ["0"] * 9, "outputs": ["0"] * 9}
        verdict = judge(short, "import time\ntime.sleep(0.4)\nprint(input())", gold)
        assert verdict.reason == "time_limit" and json.loads(verdict.detail or "{}")["passed"] < 9
        assert short.wall_limit_s(VerifyTask("row", "", "")) > 1.5
    finally:
        short.close()


@needs_bubblewrap
def test_one_sandbox_per_solution_where_namespaces_do_not_nest(verifier: CodeVerifier) -> None:
    alone = CodeVerifier(CodeConfig(time_limit_s=1.0))
    alone._runner._sandbox._nests = False  # type: ignore[attr-defined]
    try:
        assert judge(alone, SQUARE, SCRIPT).reason == "passed"
        assert judge(alone, "print(9)", SCRIPT).reason == "wrong_output"
        code = "import os\nos.kill(-1, 9) if os.fork() else None"
        assert judge(alone, code, SCRIPT).outcome is Outcome.INCORRECT
        who = "import os\nprint(os.getuid() != 0, open('/proc/self/status').read().count('CapEff:\\t0000000000000000'))"
        assert judge(alone, who, {"inputs": [""], "outputs": ["True 1"]}).reason == "passed"
        gold = {"test_code": "for x in (1, 2):\n    assert f(x) == x"}
        assert judge(alone, "def f(x): return x", gold).reason == "passed"
        assert judge(alone, "def f(x): return 1", gold).reason == "wrong_output"
        assert judge(alone, "import os\nos._exit(0)", gold).reason == "runtime_error"
    finally:
        alone.close()


@needs_bubblewrap
@pytest.mark.skipif(os.getuid() != 0, reason="an ordinary user always has a user namespace")
def test_root_without_the_right_to_mount_becomes_another_user_first(monkeypatch: pytest.MonkeyPatch) -> None:
    command = policy.confined(True, 64 * 2**20)
    if any(not parent.stat().st_mode & 0o001 for prefix in policy.prefixes() for parent in Path(prefix).parents):
        assert "Permission denied" in (policy.works(command) or "")  # this interpreter lives where only root can go
        return
    assert policy.works(command) is None
    monkeypatch.setattr(host, "_command", lambda tmp_bytes: command)
    other = CodeVerifier(CodeConfig(time_limit_s=1.0))
    try:
        assert judge(other, SQUARE, SCRIPT).reason == "passed"
        assert {_kernel_user(pid) for pid in descendants()} == {policy.UNPRIVILEGED}
        shut = f"try:\n    open('/proc/sys/kernel/core_pattern', 'a')\nexcept OSError:\n{textwrap.indent(SQUARE, ' ')}"
        assert judge(other, shut, SCRIPT).reason == "passed"
        bomb = "import os, time\nwhile True:\n    if os.fork() == 0: time.sleep(9)"
        assert judge(other, bomb, SCRIPT).reason == "runtime_error"
    finally:
        other.close()


def _kernel_user(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1])


def test_without_isolation_it_warns_and_still_limits() -> None:
    with pytest.warns(RuntimeWarning, match="sandbox: none"):
        bare = CodeVerifier(CodeConfig(time_limit_s=1.0, sandbox="none"))
    try:
        assert judge(bare, SQUARE, SCRIPT).reason == "passed"
        assert judge(bare, "while True: pass", SCRIPT).reason == "time_limit"
        assert judge(bare, "x = bytearray(1 << 40)", SCRIPT).reason == "memory_limit"
        assert judge(bare, "while True: print('x' * 999)", SCRIPT).reason == "output_limit"
        assert judge(bare, "def f(x): return x", {"test_code": "for x in (1, 2): assert f(x) == x"}).reason == "passed"
    finally:
        bare.close()


def test_a_machine_that_cannot_isolate_is_an_error_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy.shutil, "which", lambda name: None)
    with pytest.raises(SandboxUnavailableError, match="apt-get install bubblewrap"):
        Sandbox(tmp_mb=63)  # another size: what is known of this one is not remembered
    assert issubclass(SandboxUnavailableError, VerifierError)


def test_the_config_is_closed_and_travels() -> None:
    with pytest.raises(ValidationError):
        CodeConfig(unknown=1)  # type: ignore[call-arg]
    assert pickle.loads(pickle.dumps(CodeConfig(all_tests=True))).all_tests
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert CodeConfig().sandbox == "bubblewrap"
