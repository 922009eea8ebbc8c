"""factory: data factories for LLM reasoning distillation."""

__version__ = "0.1.0"
