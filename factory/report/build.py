"""Write ``report.html``: one file, no script, nothing loaded from anywhere, the same bytes for the same run."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

REPORT = "report.html"
_PACKAGES = (
    "torch", "transformers", "trl", "peft", "accelerate", "datasets", "deepspeed", "vllm", "ray", "openai",
    "math-verify", "sympy", "rapidfuzz", "pyarrow", "numpy", "pydantic", "jinja2", "matplotlib",
)  # fmt: skip
_SHORTEST_KEY = 12
"""Shorter values of a key variable are placeholders (``EMPTY``), and may be ordinary words of the page."""


def build_report(run_dir: Path) -> Path:
    """Write the report of a run, whole or partial.

    Args:
        run_dir: ``WORKSPACE/runs/<recipe name>`` with a ``manifest.json``.

    Returns:
        Path of the page, replaced in one step.

    Raises:
        WorkspaceError: when the manifest cannot be read. Anything else that is absent or damaged is said in the page.
    """
    from factory.report.data import RunFolder
    from factory.report.sections import build_sections

    run = RunFolder.open(run_dir)
    sections = build_sections(run, versions(run.manifest))
    template = _environment().get_template("report.html.jinja")
    title = str(run.manifest.get("recipe", run_dir.name))
    page = _without_keys(template.render(title=title, sections=sections).lstrip(), run.recipe)
    part = run_dir / f".{REPORT}.part"
    part.write_text(page, encoding="utf-8", newline="\n")
    return part.replace(run_dir / REPORT)


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from factory.report.text import visible

    # finalize sees every value before it is escaped: nothing reaches the page without both
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def versions(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Versions as the run recorded them; what it did not record is what is installed where this report is written."""
    from importlib import metadata

    recorded = manifest.get("versions")
    recorded = recorded if isinstance(recorded, Mapping) else {}
    rows = [
        ("distillation factory", str(manifest.get("factory", "unknown"))),
        ("python", str(recorded.get("python", platform.python_version()))),
    ]
    for package in _PACKAGES:
        try:
            rows.append((package, str(recorded.get(package) or metadata.version(package))))
        except metadata.PackageNotFoundError:
            continue
    system = f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}"
    return [*rows, ("platform", system.strip(", "))]


def _without_keys(page: str, recipe: Mapping[str, Any]) -> str:
    """A last look: no value of a variable that the recipe names as holding a key may be on the page."""
    for name in _named(recipe, "api_key_env"):
        key = os.environ.get(name, "")
        if len(key) >= _SHORTEST_KEY:
            page = page.replace(escape(key), "[redacted]").replace(key, "[redacted]")
    return page


def _named(value: Any, name: str) -> Iterator[str]:
    """Every string under a key of this name, at any depth."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key == name and isinstance(item, str):
                yield item
            yield from _named(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _named(item, name)
