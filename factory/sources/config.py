"""Where problems come from: the recipe's ``problems`` section and every benchmark's ``problems``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from factory.sources.arithmetic import ArithmeticSource


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ColumnMap(_Config):
    """Which columns hold what. The defaults try the usual names, in any case of letters.

    A dot leads into an object: ``reward_model.ground_truth``.
    """

    prompt: str | None = None
    """Column of the question, a text or a chat. Default: prompt, problem, question, query, or instruction."""
    gold: str | None = None
    """Column of the reference answer. Default: gold, answer, expected_answer, final_answer, or solution."""
    id: str | None = None
    """Column of a unique id. Default: ``id`` where there is one, else a content hash; ``""``: always a content hash."""
    licence: str | None = None
    """Column of the row's licence."""


class FileSource(_Config):
    """Problems from a JSONL, JSON, CSV, TSV or Parquet file; all but Parquet may be gzipped."""

    kind: Literal["file"] = "file"
    """Selects this source."""
    path: str = Field(min_length=1)
    """The file; a relative path is taken from the recipe's folder, then from the working directory."""
    columns: ColumnMap = ColumnMap()
    """Column names."""
    gold_format: Literal["auto", "plain", "gsm8k", "boxed", "json"] = "auto"
    """The answer as it is, after ``####`` (GSM8K), or in the last ``\\boxed{}``; ``auto`` looks at each row. ``json``:
    any JSON value, as the tests of a program are (``verify.kind: code``) or an entry of reasoning-gym."""
    licence: str = "unknown"
    """Licence of the file, for the dataset card; a row's own licence column goes first."""
    max_bad_rows: float = Field(0.05, ge=0, le=1)
    """Share of unusable rows above which the file is refused; up to it each is dropped, with its line and reason."""


class HubSource(_Config):
    """Problems from a data set on the Hugging Face hub (needs the ``train`` extra)."""

    kind: Literal["hub"] = "hub"
    """Selects this source."""
    dataset: str = Field(min_length=1)
    """Hub id, for example ``openai/gsm8k``; or a folder or file on disk, whose revision is not looked at."""
    revision: str = Field(min_length=1)
    """Commit (best) or tag, so that the run can be repeated."""
    config: str | None = None
    """Configuration name of the data set."""
    split: str = "train"
    """Split to read."""
    columns: ColumnMap = ColumnMap()
    """Column names."""
    gold_format: Literal["auto", "plain", "gsm8k", "boxed", "json"] = "auto"
    """How the answer is written."""
    licence: str = "unknown"
    """Licence of the data set, for the dataset card."""
    max_bad_rows: float = Field(0.05, ge=0, le=1)
    """Share of unusable rows above which the data set is refused."""


class PoolSource(_Config):
    """For a benchmark only: questions held out of the recipe's own problems. They are never trained on."""

    kind: Literal["pool"] = "pool"
    """Selects this source."""
    num: int = Field(100, ge=1)
    """How many problems are held out, chosen by a hash of their ids."""


BenchmarkSource = Annotated[ArithmeticSource | FileSource | HubSource | PoolSource, Field(discriminator="kind")]
ProblemSource = Annotated[ArithmeticSource | FileSource | HubSource, Field(discriminator="kind")]
