"""One self-contained HTML page about a run: what was done, what came of it, and how sure that is."""

from factory.report.build import build_report

__all__ = ["build_report"]
