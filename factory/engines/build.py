"""From an engine's settings to an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from factory.engines.base import Engine
from factory.engines.config import EngineConfig, ImportedEngineConfig, TransformersEngineConfig, VllmEngineConfig

if TYPE_CHECKING:
    from factory.rollout_store import RolloutStore


def build_engine(
    config: EngineConfig, identity: str, *, store: RolloutStore | None = None, template: str = "{problem}"
) -> Engine:
    """The engine that ``config.kind`` names; heavy imports happen with its first request.

    Args:
        store: where imported traces lie.
        template: the recipe's ``prompt_template``, which imported prompts do not have.
    """
    if isinstance(config, ImportedEngineConfig):
        from factory.engines.imported import ImportedEngine, traces_of

        return ImportedEngine(config, identity, traces_of(config, store), template)
    if isinstance(config, TransformersEngineConfig):
        from factory.engines.transformers_engine import TransformersEngine

        return TransformersEngine(config, identity)
    if isinstance(config, VllmEngineConfig):
        from factory.engines.vllm_engine import VllmEngine
        from factory.engines.vllm_server import VllmServerEngine

        return VllmServerEngine(config, identity) if config.mode == "server" else VllmEngine(config, identity)
    from factory.engines.openai_engine import OpenAIEngine

    return OpenAIEngine(config)
