"""Money: what requests may cost, what they did cost, and the cap that holds before anything is sent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from factory.engines.base import Request
from factory.engines.config import OpenAIEngineConfig
from factory.engines.limits import prompt_tokens
from factory.engines.openai_client import where
from factory.errors import EngineError

_LOOK_S = 0.02
_TEMPLATE_TOKENS = 256
"""Most tokens that a server's chat template adds to a chat: role marks and a default system prompt."""


class SpendLimitError(EngineError):
    """The next request could pass the spend cap. What arrived is kept."""


@dataclass(frozen=True)
class Estimate:
    """What requests will need, told before they are sent. Requests that are in the store cost nothing."""

    requests: int
    prompt_tokens: int
    """Guessed from the length of the text."""
    completion_tokens_at_most: int
    """If every completion were as long as ``max_tokens`` allows."""
    money_at_most: float
    """Of those, in the unit of the prices, retries not counted; 0 when there are no prices."""

    def __str__(self) -> str:
        text = f"{self.requests} requests, about {self.prompt_tokens} prompt tokens,"
        text += f" at most {self.completion_tokens_at_most} completion tokens"
        return f"{text}, at most {self.money_at_most:.4g} to pay" if self.money_at_most else text


def estimate(config: OpenAIEngineConfig, requests: Iterable[Request]) -> Estimate:
    """Tokens and money that drawing these requests may take."""
    count = guessed = completion = 0
    money = 0.0
    for request in requests:
        count += 1
        guessed += prompt_tokens(request)
        completion += request.params.max_tokens
        money += worst_price(config, request)
    return Estimate(count, guessed, completion, money)


def price(config: OpenAIEngineConfig, num_prompt_tokens: int, num_tokens: int) -> float:
    """Money for these token counts."""
    prompt, completion = config.price_per_1m_prompt_tokens, config.price_per_1m_completion_tokens
    return (prompt * num_prompt_tokens + completion * num_tokens) / 1e6


def worst_price(config: OpenAIEngineConfig, request: Request) -> float:
    """The most that one attempt can cost: a token per byte of the chat, and every completion token that is allowed."""
    num_bytes = sum(len(text.encode("utf-8", "replace")) for _, text in request.messages)
    return price(config, num_bytes + _TEMPLATE_TOKENS, request.params.max_tokens)


class Spend:
    """What an engine has spent since it was built, and what its open requests may still cost.

    An attempt counts with its real token counts once its reply is there. One that may have been billed although no
    usable reply came (time-out, broken connection, a reply without token counts) counts with its worst price; a refusal
    by status code counts nothing. Safe from any thread.
    """

    def __init__(self, config: OpenAIEngineConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._open: float = 0.0
        self._num_open = 0
        self.spent: float = 0.0

    async def reserve(self, request: Request, turn: asyncio.Lock) -> float:
        """Wait until the cap allows for the request; returns what is reserved for it.

        Open requests mostly cost less than was reserved, so while there are some, there is something to wait for.

        Args:
            turn: held while waiting, so that requests go in the order they came.

        Raises:
            SpendLimitError: when nothing is open any more and the request could still pass the cap.
        """
        worst = worst_price(self._config, request)
        if self._config.max_spend is None:
            return worst
        async with turn:
            while not self._fits(worst, self._config.max_spend):
                if self._num_open == 0:
                    raise SpendLimitError(self._text(worst, self._config.max_spend))
                await asyncio.sleep(_LOOK_S)
        return worst

    def settle(self, reserved: float, cost: float) -> None:
        """An attempt is over and cost this much."""
        with self._lock:
            self.spent += cost
            if self._config.max_spend is not None:
                self._num_open -= 1
                self._open = self._open - reserved if self._num_open else 0.0

    def _fits(self, worst: float, cap: float) -> bool:
        with self._lock:
            fits = self.spent + self._open + worst <= cap
            if fits:
                self._open += worst
                self._num_open += 1
            return fits

    def _text(self, worst: float, cap: float) -> str:
        return (
            f"{where(self._config)}: the spend cap is reached: {self.spent:.6g} of engine.max_spend = {cap:.6g} is"
            f" spent in this run, and the next request may cost {worst:.6g}; raise engine.max_spend and run again:"
            " completions that arrived are kept and not paid for again"
        )
