"""What must be so before an Envoy and a Headgate start: addresses that nobody has, and files that are there."""

from collections.abc import Iterator

from gateway_core.config import Config
from headgate_cli.address import Address, bound
from headgate_cli.errors import CommandFailed


def examine(config: Config) -> None:
    """Raises CommandFailed with a line for each address that cannot be had and each file that cannot be read."""
    problems = [*_addresses(config), *_files(config)]
    if problems:
        raise CommandFailed(*problems)


def _addresses(config: Config) -> Iterator[str]:
    """Binds each: Envoy itself shares its port with whoever does so too (SO_REUSEPORT), a second Envoy among them."""
    listen, envoy = config.listen, config.envoy
    wanted = [("listen.http", listen.http), ("listen.grpc", listen.grpc), ("envoy.admin", envoy.admin)]
    for key, text in (*wanted, *(("envoy.listen", each) for each in envoy.listen)):
        if text is None:
            continue
        address = Address.parse(text, key)
        try:
            bound(address).close()
        except OSError as error:
            yield (
                f"{key}: cannot listen on {address} ({error.strerror or error}): "
                f"end what listens there, or say another address in {key}"
            )


def _files(config: Config) -> Iterator[str]:
    for section, part in (("envoy.tls", config.envoy.tls), ("envoy.upstream_tls", config.envoy.upstream_tls)):
        for key in ("certificate", "private_key", "client_authorities", "authorities"):
            file = getattr(part, key, None)
            if file is None:
                continue
            try:
                with open(file, "rb"):
                    pass
            except OSError as error:
                yield f"{section}.{key}: {file} cannot be read: {error.strerror or error}"
