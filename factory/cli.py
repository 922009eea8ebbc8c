"""The command line. Nothing heavy is imported here: every command loads what it needs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from factory import __version__
from factory.errors import FactoryError
from factory.rollouts_cli import app as rollouts_app

app = typer.Typer(
    name="factory",
    help="Data factories for LLM reasoning distillation: from problems and teachers to a curated set and a student.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(rollouts_app, name="rollouts")

RecipeArg = Annotated[Path, typer.Argument(help="The recipe (YAML).", show_default=False)]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one value of the recipe; may be repeated.")
]
WorkspaceOption = Annotated[Path, typer.Option("--workspace", help="Folder for everything that is kept.")]
EXIT_ERROR, EXIT_INTERRUPTED = 1, 130


def main() -> None:
    """Entry point of the ``factory`` command."""
    try:
        app()
    except FactoryError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("interrupted", EXIT_INTERRUPTED)


def _fail(message: str, code: int = EXIT_ERROR) -> None:
    print(f"factory: {message}", file=sys.stderr)
    raise SystemExit(code)


@app.command()
def run(
    recipe: RecipeArg,
    set_: SetOption = None,
    workspace: WorkspaceOption = Path("workspace"),
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use only the first N problems and N questions per benchmark.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="Stop behind this stage.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is done and what would be, and do nothing.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")] = False,
) -> None:
    """Run a recipe: whatever is not in the workspace yet is done, everything else is taken from there."""
    from factory.run import STAGES
    from factory.run import run as run_flow

    _check_stage(until, STAGES)
    with _context(recipe, set_, workspace, limit=limit, until=until, dry_run=dry_run, quiet=quiet) as ctx:
        outcome = run_flow(ctx)
        if dry_run:
            _say_plan(ctx, outcome, STAGES)
            return
        _say_result(ctx, outcome)


@contextmanager
def _context(
    recipe: Path,
    overrides: list[str] | None,
    root: Path,
    *,
    quiet: bool = False,
    dry_run: bool = False,
    **settings: Any,
) -> Iterator[Any]:
    """The run's context, with everything opened and in the end closed."""
    from factory.context import Context
    from factory.progress import Progress
    from factory.recipe_io import load_recipe
    from factory.rollout_store import RolloutStore
    from factory.workspace import Workspace, disk_errors

    loaded = load_recipe(recipe, overrides or [])
    with (
        disk_errors(root),
        _looked_at(root, dry_run) as root,
        Workspace(root) as workspace,
        RolloutStore(workspace.root / "rollouts.sqlite") as store,
        Progress(quiet=quiet) as progress,
    ):
        ctx = Context(
            recipe=loaded.located(),
            written=loaded.recipe,
            folder=loaded.folder,
            workspace=workspace,
            store=store,
            progress=progress,
            dry_run=dry_run,
            command=_command(),
            **settings,
        )
        try:
            yield ctx
        except KeyboardInterrupt:
            progress.line(f"stopped; everything finished is kept. To go on: {' '.join(_command())}")
            raise


@contextmanager
def _looked_at(root: Path, dry_run: bool) -> Iterator[Path]:
    """The workspace; an empty one that vanishes again where a dry run would have to make it."""
    if not dry_run or (root / "store").is_dir():
        yield root
        return
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _command() -> list[str]:
    return ["factory", *sys.argv[1:]]


def _check_stage(name: str | None, stages: tuple[str, ...]) -> None:
    if name is not None and name not in stages:
        import difflib

        near = difflib.get_close_matches(name, stages, n=1)
        hint = f' - did you mean "{near[0]}"?' if near else ""
        raise FactoryError(f'--until: unknown stage "{name}"{hint}  known, in order: {", ".join(stages)}')


def _say_plan(ctx: Any, outcome: Any, stages: tuple[str, ...]) -> None:
    for key, artifact in ctx.artifacts.items():
        print(f"done   {key:<18} store/{artifact.path.name}")
    if outcome.done:
        print("nothing to do")
        return
    print(f"next   {outcome.stopped_at}")
    at = stages.index(outcome.stopped_at)
    last = stages.index(ctx.until) if ctx.until else len(stages) - 1
    for name in stages[at + 1 : last + 1]:
        if name != "targets" or "kd" in ctx.recipe.train.methods:
            print(f"then   {name}")


def _say_result(ctx: Any, outcome: Any) -> None:
    work = f"did {', '.join(ctx.built)}" if ctx.built else "nothing to do, everything was there"
    print(f"{ctx.recipe.name}: {work}")
    if outcome.stopped_at:
        print(f"stopped behind {outcome.stopped_at}, as asked")
    for line in _headline(ctx.run_dir / "scores.json" if "scores" in ctx.artifacts else None):
        print(line)
    for name in ("dataset", "student", "scores.json"):
        if name in ctx.shown:
            print(f"{name}: {ctx.run_dir / name}")
    print(f"report: {outcome.report}")


def _headline(scores: Path | None) -> Iterator[str]:
    if scores is None:
        return
    table = json.loads(scores.read_text())
    for benchmark in table["benchmarks"]:
        shown = "  ".join(
            f"{model} {s['avg_at_k']['value']:.1%} [{s['avg_at_k']['low']:.1%}, {s['avg_at_k']['high']:.1%}]"
            for model, s in benchmark["models"].items()
        )
        yield f"  {benchmark['name']} ({benchmark['num_questions']} questions x {benchmark['num_samples']}): {shown}"


@app.command()
def check(
    recipe: RecipeArg,
    set_: SetOption = None,
    servers: Annotated[
        bool, typer.Option("--servers/--no-servers", help="Ask OpenAI-compatible endpoints if they are there.")
    ] = True,
) -> None:
    """Validate a recipe and look for what would fail later: files, columns, models, packages, keys, servers."""
    from factory.preflight import preflight, unpaid
    from factory.recipe_io import load_recipe

    loaded = load_recipe(recipe, set_ or [])
    problems = preflight(loaded.located(), loaded.folder, ask_servers=servers)
    for problem in problems:
        print(f"{recipe}: {problem}", file=sys.stderr)
    if problems:
        raise SystemExit(EXIT_ERROR)
    print(f"{recipe}: fine")
    for note in unpaid(loaded.recipe):
        print(f"  {note}")


@app.command()
def verify(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Rows to check: JSONL, JSON, CSV or Parquet.")],
    out: Annotated[Path, typer.Option("--out", help="Where the verdicts go (.jsonl or .parquet).")],
    kind: Annotated[
        str, typer.Option("--kind", help="Which verifier: math, code, choice, ..., or ./my_check.py:Check.")
    ] = "math",
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes. Default: one per core.")] = None,
    time_limit: Annotated[
        float | None, typer.Option("--time-limit", metavar="S", help="Seconds per row (per test, for code).")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="A=B", help="A setting of this verifier; may be repeated.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="For a judge: the model's name on its server.")] = None,
    base_url: Annotated[str | None, typer.Option("--base-url", help="For a judge: the server's address.")] = None,
    api_key_env: Annotated[
        str, typer.Option("--api-key-env", help="For a judge: environment variable that holds the key.")
    ] = "OPENAI_API_KEY",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Check the responses of a file against their references, without a recipe."""
    from factory.progress import Progress
    from factory.verifying import judge_engine, verifier_config, verify_file
    from verifiers import VerifierError

    config = verifier_config(kind, workers, time_limit, set_ or [])
    engine = judge_engine(config, model, base_url, api_key_env)
    try:
        with Progress(quiet=quiet) as progress:
            summary = verify_file(source, out, config, progress, engine)
    except VerifierError as error:
        raise FactoryError(f"verify: {error}") from error
    except KeyboardInterrupt:
        _fail(f"stopped; the verdicts so far are kept. To go on: {' '.join(_command())}", EXIT_INTERRUPTED)
    if not quiet:
        _print_all(summary.lines())
        print(f"verdicts: {out}")


@app.command()
def audit(
    verdicts: Annotated[Path, typer.Argument(help="Verdicts of `factory verify`, or a run's traces.parquet.")],
    inputs: Annotated[
        Path | None, typer.Option("--inputs", help="The rows that were verified, where VERDICTS has them not.")
    ] = None,
    second: Annotated[
        str, typer.Option("--second", help="The second grader: a kind of verifier, or `none`.")
    ] = "second_math",
    sample: Annotated[int, typer.Option("--sample", min=1, help="Verdicts of each outcome to grade again.")] = 200,
    seed: Annotated[int, typer.Option("--seed", help="Of the sample.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", help="Write the whole report as JSON, too.")] = None,
) -> None:
    """Grade a sample of verdicts a second time, and list references that most samples contradict."""
    from factory.auditing import audit_file, report_lines
    from factory.verifying import verifier_config
    from factory.workspace import disk_errors, write_json
    from verifiers import VerifierError

    config = None if second == "none" else verifier_config(second, None, None, [])
    try:
        found = audit_file(verdicts, inputs, config, num_per_outcome=sample, seed=seed)
    except VerifierError as error:
        raise FactoryError(f"audit: {error}") from error
    _print_all(report_lines(found))
    if out is not None:
        with disk_errors(out.parent):
            write_json(out, found.as_dict())
        print(f"report: {out}")


@app.command()
def report(
    run: Annotated[str, typer.Argument(help="A run's folder, or its name.")],
    workspace: WorkspaceOption = Path("workspace"),
) -> None:
    """Write a run's report again."""
    from factory.report import build_report

    print(f"report: {build_report(_run_dir(run, workspace))}")


def _run_dir(run: str, workspace: Path) -> Path:
    for folder in (Path(run), workspace / "runs" / run):
        if (folder / "manifest.json").is_file():
            return folder.resolve()
    known = sorted(p.parent.name for p in (workspace / "runs").glob("*/manifest.json"))
    raise FactoryError(
        f"{run}: no run there; looked for {run}/manifest.json and {workspace}/runs/{run}/manifest.json."
        f"  known runs in {workspace}: {', '.join(known) or 'none'}"
    )


@app.command()
def status(workspace: WorkspaceOption = Path("workspace")) -> None:
    """What the workspace's runs have done so far, and whether one is running."""
    from factory.housekeeping import status_lines

    _print_all(status_lines(workspace))


@app.command()
def ls(workspace: WorkspaceOption = Path("workspace")) -> None:
    """Every stage folder: its size, and the runs that use it."""
    from factory.housekeeping import list_lines

    _print_all(list_lines(workspace))


@app.command()
def clean(
    workspace: WorkspaceOption = Path("workspace"),
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only say what would go.")] = False,
) -> None:
    """Delete stage folders that no run uses. Completions are never deleted."""
    from factory.housekeeping import clean as clean_workspace

    _print_all(clean_workspace(workspace, delete=yes))


@app.command()
def schema() -> None:
    """Print the recipe's JSON Schema, for editors."""
    from factory.recipe_io import recipe_schema

    print(json.dumps(recipe_schema(), indent=1))


def _print_all(lines: Iterator[str]) -> None:
    for line in lines:
        print(line)


def _version(value: bool) -> None:
    if value:
        print(f"factory {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    return None
