"""Where problems come from: the recipe's ``problems`` section and every benchmark's ``problems``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from factory.sources.arithmetic import ArithmeticSource


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ColumnMap(_Config):
    """Which columns hold what. The defaults try the usual names."""

    prompt: str | None = None
    """Column of the question. Default: the first of prompt, problem, question, query, instruction that is there."""
    gold: str | None = None
    """Column of the reference answer. Default: the first of gold, answer, expected_answer, final_answer, solution that is there."""
    id: str | None = None
    """Column of a unique id. Default: ``id`` where there is one, else a content hash."""
    licence: str | None = None
    """Column of the row's licence."""


class FileSource(_Config):
    """Problems from a JSONL, JSON, CSV or Parquet file (also gzipped JSONL/CSV)."""

    kind: Literal["file"] = "file"
    """Selects this source."""
    path: str
    """The file; a relative path is taken from the recipe's folder, then from the working directory."""
    columns: ColumnMap = ColumnMap()
    """Column names."""
    gold_format: Literal["auto", "plain", "gsm8k", "boxed"] = "auto"
    """How the answer is written: as it is, after ``####`` (GSM8K), or in the last ``\\boxed{}``. ``auto`` looks at each row."""
    licence: str = "unknown"
    """Licence of the file, for the dataset card; a row's own licence column goes first."""
    max_bad_rows: float = Field(0.05, ge=0, le=1)
    """Share of malformed rows above which the file is refused; up to it each bad row is dropped, with its line and reason."""


class HubSource(_Config):
    """Problems from a data set on the Hugging Face hub (needs the ``train`` extra)."""

    kind: Literal["hub"] = "hub"
    """Selects this source."""
    dataset: str
    """Hub id, for example ``openai/gsm8k``."""
    revision: str
    """Commit or tag, so that the run can be repeated."""
    config: str | None = None
    """Configuration name of the data set."""
    split: str = "train"
    """Split to read."""
    columns: ColumnMap = ColumnMap()
    """Column names."""
    gold_format: Literal["auto", "plain", "gsm8k", "boxed"] = "auto"
    """How the answer is written."""
    licence: str = "unknown"
    """Licence of the data set, for the dataset card."""
    max_bad_rows: float = Field(0.05, ge=0, le=1)
    """Share of malformed rows above which the data set is refused."""


class PoolSource(_Config):
    """For a benchmark only: questions held out of the recipe's own problems. They are never trained on."""

    kind: Literal["pool"] = "pool"
    """Selects this source."""
    num: int = Field(100, ge=1)
    """How many problems are held out, chosen by a hash of their ids."""


BenchmarkSource = Annotated[ArithmeticSource | FileSource | HubSource | PoolSource, Field(discriminator="kind")]
ProblemSource = Annotated[ArithmeticSource | FileSource | HubSource, Field(discriminator="kind")]
