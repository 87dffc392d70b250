"""`headgate chat`: a conversation with a model of a running gateway, in the terminal."""

import asyncio
import re
import sys
import time
from contextlib import aclosing, suppress
from dataclasses import dataclass

from rich.console import Console
from rich.style import Style

from headgate_cli.client import Piece, connected, first_model
from headgate_cli.errors import CommandFailed

with suppress(ImportError):  # Windows edits lines by itself
    import readline  # noqa: F401  # so that the line of a prompt can be edited

DIM = Style(dim=True)

# What a model writes may move the cursor, rename the window or worse: a terminal gets no control characters of its.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

Conversation = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """The command's options, as they were typed."""

    model: str | None = None
    prompt: str = ""
    url: str | None = None
    grpc: str | None = None
    system: str | None = None


def run(options: ChatOptions) -> int:
    """Answers one prompt, or holds a conversation where the standard input is a terminal and there is no prompt."""
    conversation: Conversation = [("system", options.system)] if options.system is not None else []
    if not options.prompt and sys.stdin.isatty():
        return converse(options, conversation)
    prompt = options.prompt or sys.stdin.read()
    if not prompt.strip():
        raise CommandFailed("there is no prompt: give one, or write it to the standard input")
    conversation.append(("user", prompt))
    asyncio.run(answer(options, conversation))
    return 0


def converse(options: ChatOptions, conversation: Conversation) -> int:
    """Reads prompts until the end of the input; an interrupt ends an answer, and the program only between answers."""
    said = Console(stderr=True, highlight=False)
    said.print("Ctrl-C cancels an answer, Ctrl-D ends the conversation.", style=DIM)
    with asyncio.Runner() as runner:
        while True:
            try:
                prompt = input("> ")
            except EOFError:
                said.print()
                return 0
            if not prompt.strip():
                continue
            conversation.append(("user", prompt))
            try:
                conversation.append(("assistant", runner.run(answer(options, conversation))))
            except (KeyboardInterrupt, CommandFailed) as error:
                # The question was not answered: the conversation goes on without it.
                conversation.pop()
                said.print(str(error) if isinstance(error, CommandFailed) else "(cancelled)", markup=False)


async def answer(options: ChatOptions, conversation: Conversation) -> str:
    """Shows the answer as it comes, and returns its text; raises CommandFailed."""
    shown = Answer()
    started = time.monotonic()
    try:
        async with connected(options.url, options.grpc) as client:
            model = options.model or await first_model(client)
            if options.model is None:
                shown.tell(f"asking {model}")
            async with aclosing(client.answer(model, conversation)) as pieces:
                async for piece in pieces:
                    shown.take(piece)
    except (CommandFailed, asyncio.CancelledError):
        shown.break_off()
        raise
    shown.end()
    if shown.is_cut:
        shown.tell("the answer was cut off at its token limit")
    tokens = f"{shown.usage[0]} tokens in, {shown.usage[1]} out" if shown.usage else "tokens not told"
    shown.tell(f"{model}: {tokens}, {time.monotonic() - started:.1f} s")
    return "".join(shown.texts)


class Answer:
    """An answer on its way to the terminal: the text to the standard output, everything about it to the error output.

    Reasoning is dimmed on a terminal, and goes to the error output where the text goes into a file or a pipe.
    """

    def __init__(self) -> None:
        """Starts with nothing said."""
        self.texts: list[str] = []
        self.is_cut = False
        self.usage: tuple[int, int] | None = None
        self._is_terminal = sys.stdout.isatty()
        self._out = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._about = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._is_reasoning = False

    def take(self, piece: Piece) -> None:
        """Shows what arrived."""
        for warning in piece.warnings:
            self.tell(f"warning: {warning}")
        self._reason(piece.reasoning)
        self._say(piece.text)
        self.usage = piece.usage or self.usage
        self.is_cut = self.is_cut or piece.finish_reason == "length"

    def _reason(self, text: str) -> None:
        if text:
            self._is_reasoning = True
            (self._out if self._is_terminal else self._about).print(CONTROL.sub("", text), style=DIM, end="")

    def _say(self, text: str) -> None:
        if not text:
            return
        if self._is_reasoning:
            (self._out if self._is_terminal else self._about).print("\n")
            self._is_reasoning = False
        self.texts.append(text)
        sys.stdout.write(CONTROL.sub("", text) if self._is_terminal else text)
        sys.stdout.flush()

    def end(self) -> None:
        """Ends the last line."""
        if not "".join(self.texts[-1:]).endswith("\n"):
            sys.stdout.write("\n")
            sys.stdout.flush()

    def break_off(self) -> None:
        """Leaves the line of an answer that did not end; a file gets nothing that the model did not say."""
        if self._is_terminal and (self.texts or self._is_reasoning):
            self.end()

    def tell(self, text: str) -> None:
        """Shows a line about the answer."""
        self._about.print(CONTROL.sub("", text), style=DIM)
