"""Code verifier: a program against the problem's tests, run in a sandbox with a verdict that it cannot forge."""

from __future__ import annotations

import json
from typing import ClassVar

from verifiers.base import INFRASTRUCTURE_REASONS, VerifyTask, recorded
from verifiers.code_extract import Program, extract_program
from verifiers.code_runner import RUNNERS, CaseResult
from verifiers.code_tests import AssertTests, CodeTests, ScriptTests, UnusableTestsError, parse_tests
from verifiers.config import CodeConfig
from verifiers.sandbox import SandboxFailedError
from verifiers.verdict import Outcome, Verdict

__all__ = ["CodeVerifier"]

_ATTEMPTS = 2
_START_ALLOWANCE_S = 120.0


class CodeVerifier:
    """Runs the last program of a response on the tests of ``VerifyTask.gold``; see docs/code_verdicts.md.

    Raises:
        VerifierError: when made on a machine that cannot isolate (``SandboxUnavailableError``).
    """

    name: ClassVar[str] = "code"
    version: ClassVar[int] = 1
    REASONS: ClassVar[tuple[str, ...]] = (
        "passed",
        "wrong_output",
        "runtime_error",
        "syntax_error",
        "time_limit",
        "memory_limit",
        "output_limit",
        "no_code",
        "truncated",
        "tests_unusable",
        *INFRASTRUCTURE_REASONS,
    )
    PRELOAD: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: CodeConfig | None = None) -> None:
        self._config = config or CodeConfig()
        self._runner = RUNNERS["python"](self._config)

    def settle(self, task: VerifyTask) -> Verdict | None:
        """Always None: only a worker process runs programs."""
        return None

    def wall_limit_s(self, task: VerifyTask) -> float:
        """All tests' limit, the last test's and the start of the sandbox."""
        return self._config.total_time_limit_s + 4 * self._config.time_limit_s + _START_ALLOWANCE_S

    def cpu_limit_s(self, task: VerifyTask) -> float:
        """Comparing outputs is all that the worker itself computes; the programs' time is the sandbox's business."""
        return self._config.total_time_limit_s

    def render(self, gold: str) -> str | None:
        """None: tests do not say how to pass them."""
        return None

    def close(self) -> None:
        """End the sandbox; another verdict starts a new one."""
        self._runner.close()

    def verify(self, task: VerifyTask) -> Verdict:
        """Extract the program and run the tests."""
        return recorded(self, self._verify, task)

    def _verify(self, task: VerifyTask) -> Verdict:
        program = Program(None, None, truncated=False)

        def verdict(outcome: Outcome, reason: str, detail: str | None = None) -> Verdict:
            return Verdict(outcome, reason, program.code, program.rule, detail=detail)

        try:
            tests = parse_tests(task.gold)
        except UnusableTestsError as error:
            return verdict(Outcome.UNVERIFIABLE, "tests_unusable", _detail(error=str(error)))
        program = extract_program(task.response, task.finish_reason)
        if program.truncated:
            return verdict(Outcome.INCORRECT, "truncated")
        if program.code is None:
            return verdict(Outcome.INCORRECT, "no_code")
        try:
            results = self._run(program.code, tests)
        except UnusableTestsError as error:
            return verdict(Outcome.UNVERIFIABLE, "tests_unusable", _detail(error=str(error)))
        except SandboxFailedError as error:
            return verdict(Outcome.ERROR, "checker_failed", _detail(error=str(error)))
        reason = next((result.reason for result in results if result.reason != "passed"), "passed")
        outcome = Outcome.CORRECT if reason == "passed" else Outcome.INCORRECT
        return verdict(outcome, reason, _summary(results, _num_tests(tests)))

    def _run(self, code: str, tests: CodeTests) -> list[CaseResult]:
        """Results up to the first failure, or all; once more where the machinery fails."""
        for attempt in range(1, _ATTEMPTS + 1):
            results: list[CaseResult] = []
            try:
                for result in self._runner.run(code, tests):
                    results.append(result)
                    if result.reason != "passed" and not self._config.all_tests:
                        break
                return results
            except SandboxFailedError:
                if attempt == _ATTEMPTS:
                    raise
            self._runner.close()
        raise AssertionError("unreachable")


def _num_tests(tests: CodeTests) -> int:
    if isinstance(tests, AssertTests):
        return len(tests.tests)
    return len(tests.inputs) if isinstance(tests, ScriptTests) else len(tests.arguments)


def _detail(**fields: object) -> str:
    """JSON that can be stored: a program's text may hold half of a surrogate pair, which UTF-8 has no form for."""
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace").decode("utf-8")


def _summary(results: list[CaseResult], num_tests: int) -> str:
    """Counts, and the first failing test."""
    passed = sum(result.reason == "passed" for result in results)
    fields: dict[str, object] = {"tests": num_tests, "run": len(results), "passed": passed}
    for i, result in enumerate(results):
        if result.reason != "passed":
            fields["first_failure"] = {"test": i, **{k: v for k, v in result._asdict().items() if v}}
            break
    return _detail(**fields)


VERIFIER = CodeVerifier
