"""From an engine's settings to an engine."""

from __future__ import annotations

from factory.engines.base import Engine
from factory.engines.config import EngineConfig, TransformersEngineConfig


def build_engine(config: EngineConfig, identity: str) -> Engine:
    """The engine that ``config.kind`` names; heavy imports happen with its first request."""
    if isinstance(config, TransformersEngineConfig):
        from factory.engines.transformers_engine import TransformersEngine

        return TransformersEngine(config, identity)
    from factory.engines.openai_engine import OpenAIEngine

    return OpenAIEngine(config)
