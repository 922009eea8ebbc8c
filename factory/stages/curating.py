"""The curated set: which traces stay, in what order, and why each of the others went."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from curation.examples import examples
from curation.select import curate as select_examples
from factory.card import dataset_card
from factory.context import Context
from factory.errors import StageError
from factory.stages.sampling import pass_counts
from factory.tables import read_table, write_jsonl
from factory.workspace import Artifact, Ledger, write_json, write_text_if_changed

VERSION = 1


def curate(ctx: Context, traces: Artifact, difficulty: Artifact) -> Artifact:
    """``dataset/`` (Parquet, JSONL, card), ``rows.parquet`` (every trace with its fate) and ``funnel.json``."""
    recipe = ctx.recipe
    inputs = {
        "traces": traces.id,
        "difficulty": difficulty.id,
        "curate": recipe.curate.model_dump(mode="json"),
        "seed": recipe.seed,
    }

    def fill(folder: Path) -> Ledger:
        table = read_table(traces.path / "traces.parquet")
        result = select_examples(table, recipe.curate, pass_counts=pass_counts(difficulty), seed=recipe.seed)
        chosen = examples(result)
        funnel = [{"name": s.name, "rows_in": s.rows_in, "kept": s.kept, "drops": s.drops} for s in result.funnel]
        if chosen.num_rows == 0:
            steps = "; ".join(f"{s['name']} kept {s['kept']} of {s['rows_in']} {s['drops']}" for s in funnel)
            raise StageError(f"curate: nothing is left to train on ({steps}); loosen curate, or draw more rollouts")
        dataset = folder / "dataset"
        dataset.mkdir()
        rows = chosen.to_pylist()
        pq.write_table(chosen, dataset / "train.parquet", compression="zstd")
        write_jsonl(dataset / "train.jsonl", rows)
        pq.write_table(result.rows, folder / "rows.parquet", compression="zstd")
        write_json(folder / "funnel.json", funnel)
        drops: dict[str, int] = {}
        for step in result.funnel:
            for reason, count in step.drops.items():
                drops[reason] = drops.get(reason, 0) + count
        return Ledger("curate", table.num_rows, chosen.num_rows, drops)

    return ctx.stage(
        "curate", VERSION, inputs, fill, show={"dataset": "dataset"}, complete=lambda a: write_card(ctx, a)
    )


def write_card(ctx: Context, curated: Artifact) -> None:
    """The card beside the published data: it names the run, which the data themselves do not depend on."""
    columns = ["problem_id", "teacher", "model", "licence", "outcome"]
    rows = read_table(curated.path / "dataset" / "train.parquet", columns).to_pylist()
    funnel = json.loads((curated.path / "funnel.json").read_text())
    write_text_if_changed(ctx.run_dir / "dataset" / "README.md", dataset_card(ctx.written, rows, funnel))
