"""What ends a command with a sentence for the person at the terminal."""

FAILED = 1
WRONG_USE = 2


class CommandFailed(Exception):
    """The command cannot go on: one line for each problem, each of which says what to do."""

    exit_code = FAILED

    def __init__(self, *problems: str) -> None:
        """Takes the lines."""
        super().__init__("\n".join(problems))
        self.problems = problems


class WrongUse(CommandFailed):
    """The command was given options that do not go together."""

    exit_code = WRONG_USE
