"""Combinators: the truth tables, who decides, and members of every kind."""

from __future__ import annotations

import itertools
import json
import pickle
from typing import Any, ClassVar

import pytest
from pydantic import TypeAdapter, ValidationError

from verifiers import Outcome, Verdict, Verifier, VerifierPool, VerifyConfig, VerifyTask, build_verifier
from verifiers.base import INFRASTRUCTURE_REASONS, TextVerifier
from verifiers.combine import CombineVerifier, Kind, combine_verdicts
from verifiers.config_more import CombineConfig

OUTCOMES = {"C": Outcome.CORRECT, "I": Outcome.INCORRECT, "U": Outcome.UNVERIFIABLE, "E": Outcome.ERROR}
TABLES = {
    "all_of": {"C": "CIUE", "I": "IIII", "U": "UIUE", "E": "EIEE"},
    "any_of": {"C": "CCCC", "I": "CIUE", "U": "CUUE", "E": "CEEE"},
    "first_decided": {"C": "CCCC", "I": "IIII", "U": "CIUE", "E": "CIEE"},
}


class Says(TextVerifier):
    """Says what it was told to; may need a worker, and counts how often it is asked."""

    name: ClassVar[str] = "says"
    version: ClassVar[int] = 1
    REASONS: ClassVar[tuple[str, ...]] = ("said", *INFRASTRUCTURE_REASONS)
    PRELOAD: ClassVar[tuple[str, ...]] = ()

    def __init__(self, outcome: Outcome, settles: bool = True) -> None:
        super().__init__(2.0)
        self.verdict = Verdict(outcome, "said", "7", "whole", "says@1", 0.0, '{"kept": 1}')
        self.settles = settles
        self.num_asked = 0
        self.closed = False

    def settle(self, task: VerifyTask) -> Verdict | None:
        return self.verify(task) if self.settles else None

    def verify(self, task: VerifyTask) -> Verdict:
        self.num_asked += 1
        return self.verdict

    def close(self) -> None:
        self.closed = True


def config_of(value: dict[str, Any]) -> VerifyConfig:
    config: VerifyConfig = TypeAdapter(VerifyConfig).validate_python(value)
    return config


def combine(kind: Kind, *members: Verifier) -> CombineVerifier:
    return CombineVerifier(CombineConfig.model_construct(kind=kind, members=()), members)


TASK = VerifyTask("x", r"\boxed{7}", "7")


@pytest.mark.parametrize(
    ("kind", "first", "second"), [(k, a, b) for k in TABLES for a, b in itertools.product("CIUE", "CIUE")]
)
def test_the_truth_table_holds(kind: Kind, first: str, second: str) -> None:
    expected = OUTCOMES[TABLES[kind][first]["CIUE".index(second)]]
    members = [Says(OUTCOMES[first]), Says(OUTCOMES[second])]
    assert combine(kind, *members).verify(TASK).outcome is expected
    assert combine_verdicts(kind, [member.verdict for member in members]).outcome is expected
    settled = combine(kind, *members).settle(TASK)
    assert settled is not None
    assert settled.outcome is expected


@pytest.mark.parametrize("kind", TABLES)
def test_three_members_are_the_table_applied_twice(kind: Kind) -> None:
    for names in itertools.product("CIUE", repeat=3):
        table = TABLES[kind]
        expected = table[table[names[0]]["CIUE".index(names[1])]]["CIUE".index(names[2])]
        outcome = combine(kind, *(Says(OUTCOMES[name]) for name in names)).verify(TASK).outcome
        assert outcome is OUTCOMES[expected], names


@pytest.mark.parametrize("kind", TABLES)
def test_undecided_members_alone_never_decide(kind: Kind) -> None:
    for names in itertools.product("UE", repeat=3):
        outcome = combine(kind, *(Says(OUTCOMES[name]) for name in names)).verify(TASK).outcome
        assert outcome in (Outcome.UNVERIFIABLE, Outcome.ERROR)


def test_members_after_the_decision_are_not_asked() -> None:
    late = Says(Outcome.CORRECT)
    assert combine("all_of", Says(Outcome.INCORRECT), late).verify(TASK).outcome is Outcome.INCORRECT
    assert combine("first_decided", Says(Outcome.CORRECT), late).verify(TASK).outcome is Outcome.CORRECT
    assert late.num_asked == 0


def test_a_row_is_settled_only_where_its_members_settle_it_in_order() -> None:
    slow = Says(Outcome.CORRECT, settles=False)
    assert combine("all_of", Says(Outcome.INCORRECT), slow).settle(TASK) is not None
    assert combine("all_of", slow, Says(Outcome.INCORRECT)).settle(TASK) is None
    assert combine("any_of", Says(Outcome.INCORRECT), slow).settle(TASK) is None
    assert combine("any_of", Says(Outcome.INCORRECT), slow).verify(TASK).outcome is Outcome.CORRECT


def test_a_settled_verdict_is_the_verified_one() -> None:
    both = combine("first_decided", Says(Outcome.UNVERIFIABLE), Says(Outcome.INCORRECT))
    settled, verified = both.settle(TASK), both.verify(TASK)
    assert settled is not None
    assert (settled.outcome, settled.rule, settled.detail) == (verified.outcome, verified.rule, verified.detail)


def test_the_verdict_tells_who_decided_and_what_all_said() -> None:
    verifier = build_verifier(config_of({"kind": "first_decided", "members": [{"kind": "choice"}, {"kind": "math"}]}))
    verdict = verifier.verify(VerifyTask("x", r"\boxed{AB}", "AB"))
    assert (verdict.outcome, verdict.reason, verdict.rule) == (Outcome.CORRECT, "exact", "math:boxed")
    assert verdict.verifier == "first_decided@1"
    detail = json.loads(verdict.detail or "")
    assert detail["decided_by"] == "math"
    assert [m["outcome"] for m in detail["members"]] == ["unverifiable", "correct"]


def test_reasons_and_preloads_are_the_members_together() -> None:
    config = config_of({"kind": "any_of", "members": [{"kind": "exact"}, {"kind": "math"}]})
    verifier = build_verifier(config)
    for kind in ("exact", "math"):
        member = build_verifier(config_of({"kind": kind}))
        assert set(member.REASONS) <= set(verifier.REASONS)
        assert set(member.PRELOAD) <= set(verifier.PRELOAD)
    assert len(set(verifier.REASONS)) == len(verifier.REASONS)
    assert verifier.name == "any_of"


def test_limits_add_up_and_closing_closes_all() -> None:
    members = [Says(Outcome.CORRECT), Says(Outcome.CORRECT)]
    both = combine("all_of", *members)
    assert both.wall_limit_s(TASK) == 2 * members[0].wall_limit_s(TASK)
    both.close()
    assert all(member.closed for member in members)


def test_configs_nest_and_travel_to_a_worker() -> None:
    inner = {"kind": "all_of", "members": [{"kind": "math"}, {"kind": "regex", "pattern": r"-?\d+"}]}
    config = config_of({"kind": "first_decided", "members": [inner, {"kind": "exact"}]})
    assert pickle.loads(pickle.dumps(config)) == config
    assert config_of(config.model_dump()) == config


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"kind": "all_of", "members": []}, "at least 1 item"),
        ({"kind": "all_of"}, "Field required"),
        ({"kind": "all_of", "members": [{"kind": "moth"}]}, "moth"),
        ({"kind": "all_of", "members": [{"kind": "judge"}]}, "Input tag .judge."),
        ({"kind": "all_of", "members": [{"kind": "math", "exact": 1}]}, "Extra inputs"),
    ],
)
def test_wrong_configs_are_refused(value: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config_of(value)


def test_a_pool_runs_a_combinator() -> None:
    members = [{"kind": "math"}, {"kind": "regex", "pattern": r"[^.]+"}]
    tasks = [
        VerifyTask("fraction", r"\boxed{\frac{1}{2}}", "1/2"),
        VerifyTask("decimal", r"\boxed{0.5}", "1/2"),
        VerifyTask("wrong", r"\boxed{2}", "1/2"),
    ]
    with VerifierPool(config_of({"kind": "all_of", "members": members, "num_workers": 1})) as pool:
        verdicts = [verdict for _, verdict in pool.verify_all(tasks)]
    assert [v.outcome for v in verdicts] == [Outcome.CORRECT, Outcome.INCORRECT, Outcome.INCORRECT]
    assert [v.rule for v in verdicts] == ["math:boxed", "regex:boxed", "math:boxed"]


def test_verdicts_of_a_judge_are_combined_afterwards() -> None:
    math = Verdict(Outcome.UNVERIFIABLE, "gold_unparsed", verifier="math@1", seconds=1.0)
    judge = Verdict(Outcome.CORRECT, "judged_correct", "seven", "boxed", "judge@1", 2.0)
    both = combine_verdicts("first_decided", [math, judge])
    assert (both.outcome, both.reason, both.rule, both.seconds) == (
        Outcome.CORRECT,
        "judged_correct",
        "judge:boxed",
        3.0,
    )
    with pytest.raises(ValueError, match="no verdicts"):
        combine_verdicts("all_of", [])
