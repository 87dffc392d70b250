"""Runs the program: the one place that catches, so that every error is one line and an exit status."""

import os
import sys
import traceback

import typer

from headgate_cli.commands import app
from headgate_cli.errors import FAILED, WRONG_USE, CommandFailed

INTERRUPTED = 130  # 128 + SIGINT, as shells count


def main() -> None:
    """Runs the program with the process's arguments and ends the process."""
    sys.exit(status(sys.argv[1:]))


def status(arguments: list[str]) -> int:
    """Runs the program; returns 0 for success, 1 for failure, 2 for wrong use, 130 for an interrupt.

    Errors are lines on the standard error. With HEADGATE_DEBUG=1 the traceback is there too.
    """
    try:
        result = app(args=arguments or ["--help"], prog_name="headgate", standalone_mode=False)
        sys.stdout.flush()
        code = result if isinstance(result, int) else 0
        return code if arguments else WRONG_USE
    except CommandFailed as error:
        return told(error, *error.problems, code=error.exit_code)
    except typer.TyperException as error:
        what = " ".join(error.format_message().replace("Value error, ", "").split())
        return told(error, f"{what} (headgate --help)", code=error.exit_code)
    except (KeyboardInterrupt, typer.Abort) as error:
        return told(error, code=INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe left: nothing is wrong, and Python must not complain of it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:  # the last resort of a program: told in a line, in full where debugging is on
        what = " ".join(str(error).split()) or "no further words"
        return told(error, f"{type(error).__name__}: {what} (HEADGATE_DEBUG=1 shows where)", code=FAILED)


def told(error: BaseException, *lines: str, code: int) -> int:
    """Writes the lines to the standard error, and returns the exit status."""
    if os.environ.get("HEADGATE_DEBUG") == "1":
        traceback.print_exception(error)
    for line in lines:
        print(f"headgate: {line}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
