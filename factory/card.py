"""The data set's card: what is in it, where it came from, and what nobody said about it."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from typing import Any

import yaml

from factory.checks import JudgeSection, label
from factory.recipe import Recipe

_HUB_TAGS = frozenset(
    (
        *("apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"),
        *(
            "cc-by-nc-4.0",
            "cc-by-nc-sa-4.0",
            "gpl-3.0",
            "lgpl-3.0",
            "mpl-2.0",
            "odc-by",
            "odbl",
            "openrail",
            "unlicense",
        ),
    )
)


def dataset_card(recipe: Recipe, examples: Sequence[dict[str, Any]], funnel: Sequence[dict[str, Any]]) -> str:
    """Markdown with the YAML header that ``datasets.load_dataset`` and hubs read."""
    licences = Counter(e["licence"] for e in examples)
    header = {
        "pretty_name": recipe.name,
        "license": _licence_tag(licences),
        "task_categories": ["text-generation"],
        "tags": ["reasoning", "distillation", "synthetic"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "train.parquet"}]}],
    }
    teachers = Counter(e["teacher"] for e in examples)
    lines = [f"# {recipe.name}", "", recipe.description or "A curated reasoning set.", ""]
    lines += [
        f"{len(examples)} examples of {len({e['problem_id'] for e in examples})} problems, one JSON object per row in"
    ]
    lines += [
        "`train.jsonl`, the same rows in `train.parquet`. `messages` holds the question and the response to learn;"
    ]
    lines += ["every other column says where the row came from, how it was judged, and why it was kept.", ""]
    wrong = sum(e["outcome"] != "correct" for e in examples)
    if wrong:
        lines += [f"**{wrong} of these responses were judged wrong** (`outcome`): this set was made to keep them.", ""]
    lines += [f"Right or wrong was decided by `{_cell(label(recipe.verify))}`.", ""]
    if isinstance(recipe.verify, JudgeSection):
        lines += ["That is a language model's opinion: no rule stands behind these verdicts.", ""]
    lines += ["## Funnel", "", "| step | rows in | kept | dropped |", "|---|---|---|---|"]
    for step in funnel:
        drops = ", ".join(f"{reason} {n}" for reason, n in sorted(step["drops"].items())) or "none"
        lines.append(f"| {step['name']} | {step['rows_in']} | {step['kept']} | {drops} |")
    lines += ["", "## Sources and licences", "", "| licence | examples |", "|---|---|"]
    lines += [f"| {_cell(name)} | {n} |" for name, n in sorted(licences.items())]
    if "unknown" in licences:
        lines += ["", "`unknown` means that the source does not say; nobody has checked it for you."]
    lines += ["", "## Teachers", "", "| teacher | model | examples |", "|---|---|---|"]
    models = {e["teacher"]: e["model"] for e in examples}
    lines += [f"| {name} | `{_cell(models[name])}` | {n} |" for name, n in sorted(teachers.items())]
    lines += ["", "The terms of a teacher model may limit what its output may be used for; they are not recorded here."]
    head = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n" + "\n".join(lines) + "\n"


def _licence_tag(licences: Counter[str]) -> str:
    """One licence where all rows agree and hubs know its name, else ``other``; an unknown one stays unknown."""
    if "unknown" in licences:
        return "unknown"
    tag = next(iter(licences)).strip().lower().replace(" ", "-") if len(licences) == 1 else "other"
    return tag if tag in _HUB_TAGS else "other"


def _cell(text: str) -> str:
    """A source's own words as the cell of a table: one line, no markup."""
    return html.escape(" ".join(text.split()))[:200].replace("|", "\\|").replace("`", "'")
