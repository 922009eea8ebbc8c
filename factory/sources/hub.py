"""Data sets of the Hugging Face hub at a pinned revision, and data set folders on disk, through ``datasets``.

Nothing of a data set is ever executed: ``datasets`` 4 and later refuse loading scripts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from factory.errors import DataError
from factory.sources.config import HubSource
from factory.sources.files import RawRow, RowStream, candidates, file_stream, resolve_path

_COMMIT = re.compile(r"[0-9a-f]{40}")
_PROBE_TIMEOUT_S = 10.0


def local_path(dataset: str, folder: Path | None) -> Path | None:
    """The file or folder that ``dataset`` names, or None when it is a hub id.

    Raises:
        DataError: when it is written as a path and nothing is there.
    """
    for place in candidates(dataset, folder):
        if place.exists():
            return place
    if dataset.startswith((".", "/", "~")) or dataset.count("/") > 1:
        return resolve_path(dataset, folder)
    return None


def hub_stream(source: HubSource, folder: Path | None) -> RowStream:
    """The rows of one split.

    Raises:
        DataError: without the ``train`` extra, without network, or when data set, revision or split does not exist.
    """
    place = local_path(source.dataset, folder)
    if place is not None and place.is_file():
        return file_stream(place)
    dataset = _load_folder(source, place) if place is not None else _load_pinned(source)
    label = f"{source.dataset}/{source.split}" if place else f"{source.dataset}@{source.revision}/{source.split}"

    def rows(columns: Sequence[str] | None) -> Iterator[RawRow]:
        wanted = dataset if columns is None else dataset.select_columns(list(columns))
        return (RawRow(number, values) for number, values in enumerate(wanted, start=1))

    return RowStream(label, "row", tuple(dataset.column_names), rows)


def require_datasets() -> Any:
    """The ``datasets`` package.

    Raises:
        DataError: when it is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"reading a hub data set needs the package `datasets` ({error}); install the extra with"
            " `pip install 'distillation-factory[train]'`, or download the data and use `kind: file`"
        ) from error
    return datasets


def _load_folder(source: HubSource, place: Path) -> Any:
    datasets = require_datasets()
    try:
        if (place / "dataset_dict.json").is_file():
            splits = datasets.load_from_disk(str(place))
            if source.split not in splits:
                raise DataError(f"{place} has no split {source.split!r}; it has: {', '.join(splits)}")
            return splits[source.split]
        if (place / "state.json").is_file():
            return datasets.load_from_disk(str(place))
        return datasets.load_dataset(str(place), source.config, split=source.split, keep_in_memory=False)
    except _errors() as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{place} cannot be read as a data set folder: {_brief(error)}") from error


def _load_pinned(source: HubSource) -> Any:
    """The split at exactly the pinned revision.

    Offline ``datasets`` takes the newest copy in its cache, whatever its revision, so what was loaded is checked.
    """
    datasets = require_datasets()
    offline = bool(datasets.config.HF_HUB_OFFLINE)
    commit = source.revision if offline else _resolve_commit(source)
    try:
        dataset = datasets.load_dataset(
            source.dataset, source.config, split=source.split, revision=commit, keep_in_memory=False
        )
    except _errors() as error:
        hint = "it is not in the cache and HF_HUB_OFFLINE is set" if offline else "check dataset, config and split"
        raise DataError(f"{source.dataset}@{source.revision}: {_brief(error)}\n  {hint}") from error
    _check_commit(source, commit, {Path(file["filename"]).parent.name for file in dataset.cache_files}, offline)
    return dataset


def _check_commit(source: HubSource, commit: str, folders: set[str], offline: bool) -> None:
    """Cache folders are named after the commit. Offline any other name is refused: nothing else vouches for it."""
    others = {name for name in folders if offline or _COMMIT.fullmatch(name)} - {commit}
    if others or (offline and not folders):
        there = ", ".join(sorted(others)) or "unknown"
        why = "is switched off (HF_HUB_OFFLINE)" if offline else "could not be reached"
        raise DataError(
            f"{source.dataset}@{source.revision}: the hub {why}, and the newest copy in the cache is revision {there};"
            " fetch the pinned revision with network, or pin the commit that is there"
        )


def _resolve_commit(source: HubSource) -> str:
    """Commit of the pinned revision, in one request without retries: ``datasets`` itself takes long to give up."""
    from huggingface_hub import HfApi
    from huggingface_hub import errors as hub

    name = f"{source.dataset}@{source.revision}"
    try:
        info = HfApi().dataset_info(source.dataset, revision=source.revision, timeout=_PROBE_TIMEOUT_S)
    except hub.GatedRepoError as error:
        raise DataError(
            f"{name}: the data set is gated; accept its terms on the hub and run `hf auth login`"
        ) from error
    except hub.RevisionNotFoundError as error:
        raise DataError(f"{name}: the data set has no such revision; give a commit or tag that it has") from error
    except hub.RepositoryNotFoundError as error:
        raise DataError(f"{name}: the hub has no such data set, or it is private (then run `hf auth login`)") from error
    except _errors() as error:
        raise DataError(
            f"{name}: the hub cannot be reached ({_brief(error)})\n  check the network (HF_ENDPOINT: a mirror);"
            " with the data set in the cache set HF_HUB_OFFLINE=1; or use `kind: file` with a downloaded copy"
        ) from error
    return info.sha or source.revision


def _errors() -> tuple[type[BaseException], ...]:
    """What loading may raise. The client's transport differs between versions; its own errors derive from that."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, ValueError, RuntimeError, DatasetsError, *HfHubHTTPError.__bases__)


def _brief(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"
