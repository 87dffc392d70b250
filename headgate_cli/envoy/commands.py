"""What the commands of `headgate envoy` do."""

import sys
from importlib.resources import files
from pathlib import Path

from gateway_core.config import Config
from headgate_cli.envoy.descriptors import descriptor_set
from headgate_cli.envoy.template import filled
from headgate_cli.envoy.values import values
from headgate_cli.errors import CommandFailed
from headgate_cli.locations import config_file, placed, read_front

TEMPLATES = ("envoy.yaml", "clusters.yaml")


def render(*, config: Path | None, output: Path | None) -> None:
    """Writes the configuration of an Envoy; raises CommandFailed."""
    write(rendered(chosen(config_file(config, None))).encode(), output)


def descriptors(*, output: Path | None, prefix: str) -> None:
    """Writes the descriptors of the contract; raises CommandFailed."""
    write(descriptor_set(prefix), output)


def chosen(path: Path | None) -> Config:
    """What the file says that an Envoy must know; raises CommandFailed, with the line of each problem."""
    config = Config() if path is None else read_front(path)
    try:
        check(config)
        values(config)
    except CommandFailed as error:
        raise CommandFailed(
            *(problem if path is None else placed(path, problem) for problem in error.problems)
        ) from None
    return config


def check(config: Config) -> None:
    """Raises CommandFailed where an Envoy is to ask what nobody answers."""
    asked, answers = config.envoy, config.envoy_services
    for key, name, is_asked, is_answered in (
        ("rate_limit_service", "rate_limit", asked.rate_limit_service, answers.rate_limit),
        ("external_authorization", "authorization", asked.external_authorization, answers.authorization),
    ):
        if is_asked and not is_answered:
            raise CommandFailed(f"envoy.{key} needs envoy_services.{name}: true, or nobody answers")


def rendered(config: Config) -> str:
    """The configuration of an Envoy before what a configuration describes; raises CommandFailed."""
    known = values(config)
    template = "".join(files("headgate_cli.envoy").joinpath(name).read_text("utf-8") for name in TEMPLATES)
    return filled(template, known)


def write(content: bytes, output: Path | None) -> None:
    """Writes to a file, or to the standard output; raises CommandFailed."""
    if output is None:
        sys.stdout.buffer.write(content)
        return
    try:
        output.write_bytes(content)
    except OSError as error:
        raise CommandFailed(f"{output} cannot be written: {error.strerror}") from None
