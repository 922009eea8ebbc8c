"""What every stage of one run gets: the recipe, the workspace, the rollout store, progress, and the manifest."""

from __future__ import annotations

import contextlib
import json
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from factory import __version__
from factory.checks import JudgeSection, RecipeVerifier
from factory.engines.base import Engine
from factory.engines.build import build_engine
from factory.engines.config import EngineConfig, ImportedEngineConfig, TransformersEngineConfig, VllmEngineConfig
from factory.errors import ModelError
from factory.progress import Progress
from factory.recipe import Recipe
from factory.records import content_hash
from factory.rollout_store import RolloutStore
from factory.workspace import Artifact, Ledger, Workspace, publish, remove, write_text_if_changed
from sft.errors import ModelLoadError
from sft.models import fingerprint, sha256_file
from verifiers.config import CombineConfig, PluginConfig

MANIFEST = "manifest.json"
EVENTS = "events.jsonl"


class Stopped(Exception):  # noqa: N818 - not an error
    """The run went as far as it was asked to go: behind ``stage`` (``done``), or in a dry run before it."""

    def __init__(self, stage: str, *, done: bool = True) -> None:
        super().__init__(stage)
        self.stage = stage
        self.done = done


@dataclass
class Context:
    """One run in progress."""

    recipe: Recipe
    """With every local file's place resolved; not for hashing, where a file's content counts and not its place."""
    written: Recipe
    """As it was written, defaults filled in: what the run's folder shows."""
    folder: Path
    """Folder of the recipe."""
    workspace: Workspace
    store: RolloutStore
    progress: Progress
    limit: int | None = None
    until: str | None = None
    dry_run: bool = False
    command: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    """Package versions of the last stage that was built."""
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    built: list[str] = field(default_factory=list)
    """Stages that had work to do in this run."""
    published: dict[str, str] = field(default_factory=dict)
    """Name in the run's folder -> id of the artifact it shows."""

    shown: set[str] = field(default_factory=set)
    """Names that belong to this run; ``forget_others`` removes what an earlier run left."""

    superseded: list[str] = field(default_factory=list)
    """Stages of an earlier run of this name with other settings; ``clean`` spares them until this one is through."""

    earlier: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Finished stages of an earlier run with the same settings, which may have gone further than this one."""

    @property
    def run_dir(self) -> Path:
        """``WORKSPACE/runs/<recipe name>``."""
        return self.workspace.root / "runs" / self.recipe.name

    def stage(
        self,
        key: str,
        version: int,
        inputs: dict[str, Any],
        fill: Callable[[Path], Ledger],
        *,
        within: str | None = None,
        show: dict[str, str] | None = None,
        complete: Callable[[Artifact], None] | None = None,
    ) -> Artifact:
        """The stage's artifact: found, or built by ``fill(folder)``.

        Args:
            key: name of the stage; ``kind/member`` where there are several of a kind.
            version: raise it when the stage's code changes its output.
            inputs: everything else that the output depends on: settings and ids of the artifacts that it reads.
            within: the stage of the flow that this artifact prepares; ``--until`` does not stop behind it.
            complete: called when the copies stand, to write beside them what the artifact does not depend on.
            show: name in the stage's folder -> name under which the run's folder shows a copy.

        Raises:
            Stopped: behind the stage that ``until`` names, or before the first unfinished one in a dry run.
        """
        path = self.workspace.locate(key, version, inputs)
        artifact = self.workspace.finished(key, path)
        if artifact is None:
            if self.dry_run:
                raise Stopped(within or key.partition("/")[0], done=False)
            self.event("started", stage=key, dir=path.name)
            artifact = self.workspace.build(key, path, fill)
            self.built.append(key)
            self.note_versions()
            self.event("finished", stage=key, seconds=artifact.ledger.seconds)
            self.progress.line(f"{artifact.ledger.line()}  {artifact.ledger.seconds:.1f}s  -> store/{path.name}")
        self.artifacts[key] = artifact
        if not self.dry_run:
            self.write_manifest()
            for inner, name in (show or {}).items():
                self.publish(artifact, inner, name)
            if complete:
                complete(artifact)
        if within is None:
            self.stop_behind(key)
        return artifact

    def stop_behind(self, key: str) -> None:
        """Raises ``Stopped`` when the run was asked to go no further than this stage."""
        if self.until == key:
            raise Stopped(key)

    def publish(self, artifact: Artifact, inner: str, name: str) -> None:
        """Show a part of an artifact in the run's folder; nothing is copied when it already stands there."""
        target = self.run_dir / name
        self.shown.add(name)
        if self.published.get(name) == artifact.id and target.exists():
            return
        publish(artifact.path / inner, target)
        self.published[name] = artifact.id
        self.write_manifest()

    def forget_others(self, *, complete: bool = False) -> None:
        """Take out of the run's folder what an earlier run with other settings showed there; the store keeps it."""
        stands_on = {Path(stage["dir"]).name for stage in self.stages().values()}
        if complete:
            self.superseded = []
        own = self.shown | {name for name, artifact in self.published.items() if artifact in stands_on}
        for name in sorted(set(self.published) - own - {"report.html"}):
            remove(self.run_dir / name)
            del self.published[name]
            self.progress.line(
                f"{name} of an earlier run was taken out of {self.run_dir} (its stage is still in the store)"
            )
        self.write_manifest()

    def report_inputs(self) -> str:
        """Identity of all that the report shows."""
        shown = {key: value for key, value in self.published.items() if key != "report.html"}
        stages = {key: stage["dir"] for key, stage in self.stages().items()}
        return content_hash(__version__, stages, shown, self.written.model_dump(mode="json"), self.limit)

    def open_run(self) -> None:
        """Make the run's folder and write the resolved recipe. A dry run only looks."""
        if self.dry_run:
            return
        self.run_dir.mkdir(parents=True, exist_ok=True)
        manifest = self.run_dir / MANIFEST
        if manifest.is_file():
            try:
                earlier = json.loads(manifest.read_text())
                self.published = dict(earlier.get("published", {}))
                self.versions = dict(earlier.get("versions", {}))
                self.superseded = list(earlier.get("superseded", []))
                if earlier.get("settings") != self.settings_id():
                    self.superseded += [s["dir"] for s in earlier["stages"].values()]
                else:
                    self.earlier = {k: s for k, s in earlier["stages"].items() if self.workspace.holds(s["dir"])}
            except (ValueError, AttributeError, TypeError, KeyError):
                self.published = {}  # a manifest we cannot read: everything is published again

    def settings_id(self) -> str:
        """Identity of what the user asked for."""
        return content_hash(self.written.model_dump(mode="json"), self.limit)

    def stages(self) -> dict[str, dict[str, Any]]:
        """What this run stands on, and what an earlier one with the same settings and inputs had made behind that."""
        own = {key: {"dir": f"store/{a.path.name}", "ledger": asdict(a.ledger)} for key, a in self.artifacts.items()}
        if any(self.earlier.get(key, stage)["dir"] != stage["dir"] for key, stage in own.items()):
            self.earlier = {}  # a file that the recipe names has changed
        return own | {key: stage for key, stage in self.earlier.items() if key not in own}

    def write_manifest(self) -> None:
        """Say which artifacts this run stands on, and with which recipe."""
        self._write_if_changed("recipe.json", self.written.model_dump(mode="json"))
        self._write_if_changed(
            MANIFEST,
            {
                "format": 1,
                "recipe": self.recipe.name,
                "factory": __version__,
                "command": self.command,
                "versions": self.versions,
                "limit": self.limit,
                "settings": self.settings_id(),
                "stages": self.stages(),
                "published": self.published,
                "superseded": sorted({d for d in self.superseded if self.workspace.holds(d)}),
            },
        )

    def note_versions(self) -> None:
        """Remember with which packages this run's last new stage was built."""
        for package in (
            "torch",
            "transformers",
            "trl",
            "peft",
            "datasets",
            "openai",
            "math-verify",
            "numpy",
            "pyarrow",
        ):
            with contextlib.suppress(metadata.PackageNotFoundError):
                self.versions[package] = metadata.version(package)
        self.versions["python"] = platform.python_version()

    def _write_if_changed(self, name: str, data: Any) -> None:
        write_text_if_changed(self.run_dir / name, json.dumps(data, indent=1, ensure_ascii=False) + "\n")

    def event(self, kind: str, **facts: Any) -> None:
        """Append one line to the run's events."""
        row = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "event": kind, **facts}
        with open(self.run_dir / EVENTS, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")

    def model_id(self, reference: str) -> str:
        """Identity of a local or hub model by content; digests of large files are remembered in the workspace.

        Raises:
            ModelError: when the reference names nothing.
        """
        try:
            return fingerprint(reference, self.file_digest)
        except ModelLoadError as error:
            raise ModelError(str(error)) from error

    def file_digest(self, path: Path) -> str:
        """SHA-256 of a file, remembered by path, size and modification time."""
        known = self.store.known_fingerprint(path)
        if known is None:
            known = sha256_file(path)
            if not self.dry_run:
                self.store.record_fingerprint(path, known)
        return known

    def engine_id(self, config: EngineConfig) -> str:
        """Identity of the completions that this engine draws."""
        if isinstance(config, TransformersEngineConfig):
            from factory.engines.transformers_engine import transformers_identity

            return transformers_identity(config, self.model_id(config.model))
        if isinstance(config, VllmEngineConfig):
            from factory.engines.vllm_setup import vllm_identity

            return vllm_identity(config, self.model_id(config.model), self.file_digest)
        if isinstance(config, ImportedEngineConfig):
            from factory.engines.imported import digest_of, imported_identity

            return imported_identity(config, digest_of(config, self.folder, self.store, self.file_digest))
        from factory.engines.openai_engine import openai_identity

        return openai_identity(config)

    def verifier_id(self, config: RecipeVerifier) -> dict[str, Any]:
        """What verdicts depend on: the settings, the verifier's version, and the model of a judge."""
        from verifiers import build_verifier

        with contextlib.closing(build_verifier(config)) as verifier:
            inputs = config.model_dump(mode="json", exclude={"num_workers"}) | {"version": verifier.version}
        if isinstance(config, JudgeSection):  # no worker, so no limit on its time; the engine as a teacher's
            del inputs["time_limit_s"]
            inputs["engine"] = self.engine_id(config.engine)
        elif isinstance(config, CombineConfig):
            inputs["members"] = [self.verifier_id(member) for member in config.members]
        elif isinstance(config, PluginConfig):
            place, _, name = config.check.rpartition(":")
            if place.endswith(".py"):  # by content, as everything local
                inputs["check"] = [name, sha256_file(Path(place))]
        return inputs

    @contextmanager
    def engine(self, config: EngineConfig, identity: str | None = None) -> Iterator[Engine]:
        """An engine that is closed in the end."""
        template = self.recipe.prompt_template
        engine = build_engine(config, identity or self.engine_id(config), store=self.store, template=template)
        try:
            yield engine
        finally:
            engine.close()
