"""``factory rollouts``: look at a workspace's completions, take them out, put existing traces in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from factory.errors import DataError

app = typer.Typer(
    name="rollouts",
    help="A workspace's completions: list, show, export, and import existing traces.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
WorkspaceOption = Annotated[Path, typer.Option("--workspace", help="Folder for everything that is kept.")]


@app.command("ls")
def list_(
    workspace: WorkspaceOption = Path("workspace"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Counts and tokens by model and finish reason."""
    from factory.rollout_files import open_store

    with open_store(workspace) as store:
        groups, imports = store.groups(), store.imports()
    if as_json:
        shown = {"rollouts": [g._asdict() for g in groups], "imports": [i._asdict() for i in imports.values()]}
        print(json.dumps(shown, indent=1, ensure_ascii=False))
        return
    total = [sum(g.num for g in groups), sum(g.num_prompt_tokens for g in groups), sum(g.num_tokens for g in groups)]
    rows = [(g.model, g.finish_reason, g.num, g.num_prompt_tokens, g.num_tokens) for g in groups]
    for line in _table(("model", "finish", "rollouts", "prompt tokens", "tokens"), [*rows, ("total", "", *total)]):
        print(line)
    for row in imports.values():
        rough = row.num_traces - row.num_counted
        note = f", tokens of {rough} counted roughly" if rough else ""
        state = "" if row.finished else ", not finished: run the same import again"
        print(f"import {row.name}: {row.num_traces} traces of {row.source}{note}{state}")


def _table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Iterator[str]:
    cells = [header, *(tuple(map(str, row)) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        left = [row[i].ljust(widths[i]) for i in range(2)]
        yield "  ".join([*left, *(row[i].rjust(widths[i]) for i in range(2, len(row)))])


@app.command()
def show(
    key: Annotated[str, typer.Argument(help="Its key, or the key's first characters (a trace_id is the first 16).")],
    workspace: WorkspaceOption = Path("workspace"),
) -> None:
    """One completion with its prompt."""
    from factory.rollout_files import open_store

    with open_store(workspace) as store:
        found = store.find(key) if key.isalnum() else []
    if not found:
        raise DataError(f"no rollout's key begins with {key!r}; `factory rollouts export` lists them all")
    if len({r.key for r in found}) > 1:
        some = "\n  ".join(sorted({r.key for r in found}))
        raise DataError(f"several keys begin with {key!r}; give more of it:\n  {some}")
    for rollout in found:
        facts = rollout._asdict()
        texts = {name: facts.pop(name) for name in ("prompt", "response")}
        facts["max_tokens"] = facts["max_tokens"] or "ended by itself"
        for name, value in facts.items():
            if value is not None:
                print(f"{name}: {value}")
        print(f"--- prompt\n{_plain(texts['prompt'])}\n--- response\n{texts['response']}")


def _plain(prompt: str) -> str:
    """A chat in JSON as its turns; another engine's prompt as it is."""
    try:
        turns = json.loads(prompt)
        return "\n".join(f"[{turn['role']}] {turn['content']}" for turn in turns)
    except (ValueError, TypeError, KeyError):
        return prompt


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="A file to write: .parquet or .jsonl.")],
    workspace: WorkspaceOption = Path("workspace"),
    model: Annotated[
        str | None, typer.Option("--model", help="Only this model's; * stands for any text.", metavar="M")
    ] = None,
) -> None:
    """Write completions to a file, in the order of their keys."""
    from factory.rollout_files import export_rollouts, open_store

    with open_store(workspace) as store:
        num = export_rollouts(store, out, model)
    print(f"{num} rollouts: {out}")


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="JSONL, JSON, CSV or Parquet; all but Parquet may be gzipped.")],
    name: Annotated[str, typer.Option("--name", help="What to call these traces.")],
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns", metavar="ROLE=COLUMN,...", help="prompt, response, thinking, gold, problem_id, teacher, ..."
        ),
    ] = None,
    max_bad_rows: Annotated[
        float, typer.Option("--max-bad-rows", min=0, max=1, help="Share of rows without a trace that is put up with.")
    ] = 0.05,
    workspace: WorkspaceOption = Path("workspace"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Make a file's traces rollouts, to verify and curate without a model."""
    import re

    from factory.rollout_files import import_traces, open_store, trace_columns
    from sft.models import sha256_file

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name):
        raise DataError(f"--name {name}: letters, digits, dot, dash and underscore, at most 80")
    with open_store(workspace, create=True) as store:
        done = import_traces(store, source, name, trace_columns(columns), sha256_file, max_bad_rows)
    if quiet:
        return
    for line in done.lines():
        print(line)
    print(f"in a recipe: engine: {{kind: imported, name: {name}}}")
