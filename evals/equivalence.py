"""Whether two answers say the same, by the verifier that judged them: what a majority vote counts."""

from __future__ import annotations

from functools import lru_cache

from evals.metrics import Same
from verifiers import Outcome, Verifier, VerifierPool, VerifyConfig, VerifyTask, build_verifier
from verifiers.config import ExactConfig, JudgeConfig
from verifiers.math import MathVerifier


def same_answers(config: VerifyConfig | JudgeConfig | None = None, pool: VerifierPool | None = None) -> Same:
    """The verifier's equality of two extracted answers (default: mathematical; of a judge's: of their texts).

    Results are remembered.

    Without a pool only what the verifier settles in bounded time counts as the same: numbers, tuples, sets, words in
    any notation and most expressions, but not what needs sympy (sums, integrals): an open pool decides that, too.
    """
    verifier: Verifier = MathVerifier()
    if config is not None:  # no judge is asked which answers vote together: that would be paid for
        verifier = build_verifier(ExactConfig() if isinstance(config, JudgeConfig) else config)

    @lru_cache(maxsize=100_000)
    def same(a: str, b: str) -> bool:
        if a == b:
            return True
        response = verifier.render(b)
        if response is None:
            return False
        task = VerifyTask("same", response, a)
        if pool is not None:
            return pool.submit(task).result().outcome is Outcome.CORRECT
        settled = verifier.settle(task)
        return settled is not None and settled.outcome is Outcome.CORRECT

    return same
