"""What a call uses: as its provider tells it, and else estimated from what was delivered.

An answer is estimated as it passes, by counting characters alone: four are a token, rounded up. That is what English
text has on average with the tokenizers of the usual models; other languages have fewer characters in a token, so it is
rather too low than too high. A prompt is estimated by `estimate`, as its limits are.
"""

import time

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk

from gateway_core.said import Said, delta_characters
from gateway_core.tokens import UNTOLD, Tokens, tokens_of

CHARACTERS_PER_TOKEN = 4


class Measure:
    """What the events of an answer tell, one after the other."""

    __slots__ = ("_characters_when_told", "characters", "finish_reason", "first_event_at", "response_model", "told")

    def __init__(self) -> None:
        """Begins with nothing."""
        self.characters = 0
        """Delivered: of texts, reasoning, refusals and the arguments of tools."""
        self.finish_reason: str | None = None
        self.first_event_at: float | None = None
        """Of time.perf_counter, in seconds."""
        self.response_model = ""
        self.told: Tokens | None = None
        """The tokens used, as an event told them last. None: none did."""
        self._characters_when_told = 0

    def note(self, event: ChatCompletionChunk) -> None:
        """Takes note of an event."""
        if self.first_event_at is None:
            self.first_event_at = time.perf_counter()
        if not self.response_model:
            self.response_model = event.model
        choices = event.choices
        # The one by its place, or a list: to walk a repeated field itself costs three times as much.
        for choice in (choices[0],) if len(choices) == 1 else choices[:]:
            self.characters += delta_characters(choice.delta)
            reason = choice.finish_reason
            if reason:
                self.finish_reason = reason
        if "usage" in event:
            self.told = tokens_of(event.usage)
            self.response_model = event.model or self.response_model  # another target may have gone on with the answer
            self._characters_when_told = self.characters

    def note_whole(self, said: Said) -> None:
        """Takes note of an answer that came whole."""
        self.first_event_at = time.perf_counter()
        _, self.response_model, reasons, characters, self.told = said
        self.characters = self._characters_when_told = characters
        for reason in reasons.values():
            self.finish_reason = reason  # of several the last

    @property
    def delivered_tokens(self) -> int:
        """What was delivered, estimated."""
        return -(-self.characters // CHARACTERS_PER_TOKEN)

    def told_so_far(self) -> Tokens | None:
        """What the provider told of an answer that is not whole. None: nothing.

        What was delivered since is added, estimated: it had told only what there was then.
        """
        told = self.told
        if told is None:
            return None
        since = token_count(self.characters - self._characters_when_told)
        return told._replace(completion=(told.completion or 0) + since) if since else told


def charged_tokens(told: Tokens | None, *, estimated_prompt: int, delivered: int) -> Tokens:
    """The tokens that are charged: as told, and else the estimates; nothing where nothing was told or delivered."""
    if told is not None:
        return told
    return Tokens(prompt=estimated_prompt, completion=delivered) if delivered else UNTOLD


def token_count(characters: int) -> int:
    """The tokens that so many characters are, estimated."""
    return -(-characters // CHARACTERS_PER_TOKEN)
