"""The recipe: what the libraries' own config sections add up to. Loading and error messages live in ``recipe_io``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from curation.config import CurationConfig
from evals.config import IntervalConfig
from factory.checks import Check, RecipeVerifier
from factory.engines.config import EngineConfig
from factory.sampling_config import DifficultyConfig, RolloutsConfig
from factory.sources.config import BenchmarkSource, ProblemSource
from sft.config import TrainConfig
from verifiers.config import MathConfig

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
"""Usable as a folder name."""


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Teacher(_Config):
    """One candidate teacher."""

    name: Name
    """How the report calls it."""
    engine: EngineConfig
    """Where it runs."""
    system_prompt: str | None = None
    """Sent before every question to this teacher; the student is trained without it."""


class SmokeConfig(_Config):
    """Teacher smoke test (DED, arXiv 2508.09883): train the student briefly on each candidate's traces and compare."""

    num_problems: int = Field(150, ge=4)
    """Problems every candidate answers."""
    num_samples: int = Field(1, ge=1)
    """Traces asked per problem and candidate."""
    train_tokens: int = Field(200_000, ge=100)
    """Tokens of traces (not of questions) a student is trained on: equal for all, so that long traces win nothing."""
    num_questions: int = Field(100, ge=4)
    """Questions the trained student answers, drawn from the problems that no candidate is trained on."""
    eval_samples: int = Field(2, ge=1)
    """Answers per question."""


class TeachersConfig(_Config):
    """Candidate teachers and how one is chosen."""

    candidates: tuple[Teacher, ...] = Field(min_length=1)
    """One or more teachers with different names."""
    select: Literal["smoke", "first"] = "smoke"
    """``smoke``: the teacher whose traces teach the student most in a short trial. ``first``: the first listed."""
    smoke: SmokeConfig = SmokeConfig()
    """Settings of the smoke test."""

    @field_validator("candidates")
    @classmethod
    def _names_differ(cls, value: tuple[Teacher, ...]) -> tuple[Teacher, ...]:
        names = [t.name for t in value]
        for name in names:
            if name == "base":
                raise ValueError(
                    'a candidate cannot be called "base": that is the untrained student; choose another name'
                )
            if names.count(name) > 1:
                raise ValueError(f"two candidates are called {name!r}; give each its own name")
        return value


class Benchmark(_Config):
    """One set of questions that base and students answer."""

    name: Name
    """How the report calls it."""
    problems: BenchmarkSource
    """The questions; what is asked here is taken out of the recipe's problems."""
    role: Literal["in_domain", "out_of_domain", "retention"] = "in_domain"
    """What the score says: the skill that was taught, its reach, or what must not be lost."""
    num_samples: int = Field(4, ge=1, le=1024)
    """Answers per question (avg@k with k = num_samples)."""
    max_questions: int | None = Field(None, ge=1)
    """Use only so many questions (chosen by id)."""
    verifier: RecipeVerifier | None = None
    """Which check decides on this benchmark's answers. Default: the recipe's ``verify``."""


class EvalConfig(_Config):
    """What base and students are measured on."""

    benchmarks: tuple[Benchmark, ...] = Field(min_length=1)
    """One or more benchmarks with different names; the first is the headline."""
    temperature: float = Field(0.6, ge=0, le=2)
    """Sampling temperature; 0 is greedy."""
    top_p: float = Field(0.95, gt=0, le=1)
    """Nucleus mass."""
    max_tokens: int = Field(1024, ge=1)
    """Longest answer."""
    batch_size: int = Field(64, ge=1, le=4096)
    """Answers the student generates together, here and when its pass rate is measured."""
    intervals: IntervalConfig = IntervalConfig()
    """How intervals are computed."""

    @field_validator("benchmarks")
    @classmethod
    def _names_differ(cls, value: tuple[Benchmark, ...]) -> tuple[Benchmark, ...]:
        names = [b.name for b in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two benchmarks are called {name!r}; give each its own name")
        return value


class Recipe(_Config):
    """Everything one run depends on."""

    name: Name
    """Folder of the run: ``WORKSPACE/runs/<name>``."""
    description: str = ""
    """One or two sentences for the report and the dataset card."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Seed of every random choice."""
    problems: ProblemSource
    """The pool of problems."""
    prompt_template: str = "{problem}"
    """How a problem is put to teachers and students; ``{problem}`` is replaced."""
    teachers: TeachersConfig
    """Who writes the traces."""
    rollouts: RolloutsConfig = RolloutsConfig()
    """How the chosen teacher is sampled."""
    verify: RecipeVerifier = MathConfig()
    """Which check decides whether a trace is correct."""
    difficulty: DifficultyConfig = DifficultyConfig(num_samples=8)
    """How the student's pass rate is measured; its ``max_tokens`` bounds the student's attempts."""
    curate: CurationConfig = CurationConfig()
    """Which examples are kept."""
    train: TrainConfig
    """How the student is taught."""
    eval: EvalConfig
    """What it is measured on."""

    @property
    def check(self) -> Check:
        """What decides on traces and on the student's attempts at the recipe's problems."""
        return Check("verify", self.verify)

    def check_of(self, benchmark: Benchmark) -> Check:
        """What decides on the answers to a benchmark."""
        if benchmark.verifier is None:
            return self.check
        return Check(f"eval.benchmarks ({benchmark.name}): verifier", benchmark.verifier)

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every check of the recipe, once."""
        found = (self.check, *(self.check_of(b) for b in self.eval.benchmarks))
        return tuple({check.where: check for check in found}.values())

    @field_validator("prompt_template")
    @classmethod
    def _holds_problem(cls, value: str) -> str:
        if "{problem}" not in value:
            raise ValueError("must contain {problem}")
        return value

    @model_validator(mode="after")
    def _kd_needs_teacher_weights(self) -> Recipe:
        without_weights = any(t.engine.kind in ("openai", "imported") for t in self.teachers.candidates)
        if "kd" in self.train.methods and any(getattr(t.engine, "lora", None) for t in self.teachers.candidates):
            raise ValueError(
                "train.methods has kd, which reads the teacher's distributions from engine.model alone, but a candidate"
                " teacher has engine.lora: use methods: [sft], or a model with the adapter merged into it"
            )
        if "kd" in self.train.methods and without_weights:
            raise ValueError(
                "train.methods has kd, which needs the teacher's token distributions, but a candidate teacher runs on"
                " the openai engine, or is imported: use methods: [sft], or engine kind transformers"
            )
        return self
