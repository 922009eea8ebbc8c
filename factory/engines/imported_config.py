"""The ``engine`` of a teacher whose traces exist already."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field, model_validator


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TraceColumns(_Config):
    """Which columns of a trace file hold what. The defaults try the names that published trace sets have."""

    prompt: str | None = None
    """The question: a text, or a chat whose user turn it is."""
    response: str | None = None
    """What the model answered: a text, a list of them, or a chat whose last assistant turn it is."""
    thinking: str | None = None
    """Reasoning, where it is not part of the response."""
    gold: str | None = None
    """Reference answer; kept with the rows. A recipe reads it with its ``problems``."""
    problem_id: str | None = None
    """Id of the problem; kept with the rows."""
    teacher: str | None = None
    """Name of the model that answered."""
    num_tokens: str | None = None
    """Tokens of the response. Without it, they are counted roughly (UTF-8 bytes / 4)."""
    finish_reason: str | None = None
    """``stop`` or ``length``. Without it, a trace that opens its reasoning and never closes it was cut off."""


class ImportedEngineConfig(_Config):
    """Traces that exist already: sample i of a prompt is the i-th trace that a file has of it. Nothing is computed.

    Prompts are compared without ``prompt_template`` and up to white space. Whole traces are taken, whatever
    ``max_tokens`` says (``curate.max_tokens`` drops long ones); temperature and seed mean nothing here.
    """

    kind: Literal["imported"] = "imported"
    """Selects this engine."""
    path: str | None = Field(None, min_length=1)
    """A JSONL, JSON, CSV or Parquet file; a relative path is taken from the recipe's folder, then from the working
    directory."""
    name: str | None = Field(None, min_length=1)
    """Instead of ``path``: traces that ``factory rollouts import --name`` put into the workspace."""
    columns: TraceColumns = TraceColumns()
    """Column names of ``path``."""
    teacher: str | None = None
    """Take only the traces of this model, as the file names it. Default: all."""

    @computed_field(repr=False)  # type: ignore[prop-decorator]
    @property
    def model(self) -> str:
        """What the report shows in the place of a model's name."""
        source = self.name or (self.path or "").replace("\\", "/").rpartition("/")[2]
        return f"{source}/{self.teacher}" if self.teacher else source

    @model_validator(mode="after")
    def _one_source(self) -> ImportedEngineConfig:
        if (self.path is None) == (self.name is None):
            raise ValueError("needs either path (a file of traces) or name (of `factory rollouts import --name`)")
        return self
