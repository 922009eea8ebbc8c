"""What every stage needs: the recipe, the workspace, the rollout store, and somewhere to report to."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from factory.engines.base import Engine
from factory.engines.build import build_engine
from factory.engines.config import EngineConfig, OpenAIEngineConfig, TransformersEngineConfig
from factory.errors import ModelError, StageError
from factory.progress import Progress
from factory.recipe import Recipe
from factory.rollout_store import RolloutStore
from factory.workspace import Artifact, Ledger, Workspace
from sft.errors import ModelLoadError, TrainingDataError
from sft.models import fingerprint, sha256_file


@dataclass(frozen=True)
class Model:
    """Something that answers: a teacher, the base student, or a trained student."""

    name: str
    engine: EngineConfig
    identity: str
    system_prompt: str | None = None

    def messages(self, question: str) -> tuple[tuple[str, str], ...]:
        """The chat that puts a question to this model."""
        system = (("system", self.system_prompt),) if self.system_prompt else ()
        return (*system, ("user", question))


@dataclass
class Context:
    """State of one run; stages read it and hand their artifacts back through ``stage``."""

    recipe: Recipe
    workspace: Workspace
    store: RolloutStore
    progress: Progress
    limit: int | None = None
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    """By label (``rollouts``, ``train sft``, ...), in the order in which the run came by them."""

    def stage(self, label: str, name: str, inputs: Any, make: Callable[[Path], Ledger]) -> Artifact:
        """``workspace.build`` with the library errors named, the ledger line shown, and the artifact noted."""
        started = time.monotonic()
        with library_errors(label):
            artifact = self.workspace.build(name, inputs, make)
        self.artifacts[label] = artifact
        took = "cached" if artifact.cached else f"{time.monotonic() - started:.1f}s"
        self.progress.line(f"{label:<24} {artifact.ledger.line()}  {took}  -> store/{artifact.path.name}")
        return artifact

    def model(self, name: str, engine: EngineConfig, system_prompt: str | None = None) -> Model:
        """A model with its identity."""
        return Model(name, engine, self.identity(engine), system_prompt)

    def student(self, name: str, reference: str) -> Model:
        """The base student or a trained one, as the recipe has the student sampled."""
        config = TransformersEngineConfig(
            model=reference, dtype=self.recipe.train.dtype, batch_size=self.recipe.eval.batch_size
        )
        return self.model(name, config)

    def identity(self, engine: EngineConfig) -> str:
        """Which completions an engine gives: equal identities give equal completions."""
        if isinstance(engine, OpenAIEngineConfig):
            from factory.engines.openai_engine import openai_identity

            return openai_identity(engine)
        return f"{self.fingerprint(engine.model)}/{engine.dtype}"

    def fingerprint(self, reference: str) -> str:
        """Content identity of a local model; files that did not change are not read again."""
        try:
            return fingerprint(reference, self._file_digest)
        except ModelLoadError as error:
            raise ModelError(str(error)) from error

    def _file_digest(self, path: Path) -> str:
        path = path.resolve()
        known = self.store.known_fingerprint(path)
        if known is None:
            known = sha256_file(path)
            self.store.record_fingerprint(path, known)
        return known

    @contextmanager
    def engine(self, model: Model) -> Iterator[Engine]:
        """The model's engine, closed afterwards so that only one model is in memory."""
        engine = build_engine(model.engine, model.identity)
        try:
            yield engine
        finally:
            engine.close()

    def costs(self) -> dict[str, dict[str, float]]:
        """Seconds and tokens per artifact of this run, as recorded when each was made."""
        return {label: artifact.costs() for label, artifact in self.artifacts.items()}


@contextmanager
def library_errors(where: str) -> Iterator[None]:
    """Errors of the libraries as the product's own, with the stage they happened in."""
    try:
        yield
    except ModelLoadError as error:
        raise ModelError(f"{where}: {error}") from error
    except TrainingDataError as error:
        raise StageError(f"{where}: {error}") from error


def read_json(path: Path) -> Any:
    """A JSON file that we wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file that we wrote."""
    with open(path, encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]
