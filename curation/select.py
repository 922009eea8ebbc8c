"""Curation of a trace table: filters add columns, one selection step reads them, every row keeps why it stayed or went.

The result does not depend on the order of the rows: what is random is a hash of the seed and of what a row is.
"""

from __future__ import annotations

import pyarrow as pa

from curation.columns import read_traces
from curation.config import CurationConfig, DedSelector
from curation.ded import select_ded
from curation.difficulty import check_counts
from curation.draw import draw_key
from curation.examples import EXAMPLE_SCHEMA, examples
from curation.filters import DUPLICATE_REASONS, SHAPE_REASONS, VERDICT_REASONS, filter_rows
from curation.sieve import ADDED_COLUMNS, Curated, PassCounts, Sieve, Step

__all__ = ["ADDED_COLUMNS", "EXAMPLE_SCHEMA", "KEEP_REASONS", "Curated", "Step", "curate", "examples"]

KEEP_REASONS = ("drawn", "shortest", "farthest", "shortest; difficulty_unknown", "farthest; difficulty_unknown")
"""``drawn``: random selector. The others: first and later traces of a problem chosen by the ded selector."""

_FILTER_STEPS = {"verdict": VERDICT_REASONS, "shape": SHAPE_REASONS, "duplicates": DUPLICATE_REASONS}


def curate(traces: pa.Table, config: CurationConfig, *, pass_counts: PassCounts, seed: int) -> Curated:
    """Filter and select; columns of an earlier curation are replaced.

    The random selector draws by a hash of seed and trace id. The kept rows of either selector are listed in the order
    of that hash (``position``): a shuffle, in which two rows stand in the same order whatever else is kept.

    Args:
        traces: one row per trace, with at least the columns ``curation.columns.READS``.
        config: filters and selector.
        pass_counts: the student's correct and judged samples per problem.
        seed: of the draw, the trim and the order.

    Raises:
        ValueError: when a column is missing or a pass count is impossible.
    """
    for k, n in pass_counts.values():
        check_counts(k, n)
    table = traces.select([name for name in traces.column_names if name not in ADDED_COLUMNS.names])
    rows = read_traces(table)
    sieve = Sieve(rows, filter_rows(rows, config), pass_counts, [None] * len(rows))
    for step, reasons in _FILTER_STEPS.items():
        sieve.drop(step, {row: reason for row, reason in enumerate(sieve.filtered.reasons) if reason in reasons})
    if isinstance(config.selector, DedSelector):
        select_ded(sieve, config.selector, config.size, seed)
    else:
        sieve.keep_reasons = dict.fromkeys(sieve.kept(), "drawn")
        sieve.drop("size", dict.fromkeys(_shuffled(sieve, seed)[config.size :], "over_size"))
    return Curated(sieve.add_columns(table, _shuffled(sieve, seed)), tuple(sieve.funnel))


def _shuffled(sieve: Sieve, seed: int) -> list[int]:
    """The kept rows by a seeded hash of the trace id; the rest of the key parts rows that share an id."""
    traces, digests = sieve.traces, sieve.filtered.digests
    keys = {row: (draw_key(seed, "row", traces.trace_id[row]), traces.order(row), digests[row]) for row in sieve.kept()}
    return sorted(keys, key=keys.__getitem__)
