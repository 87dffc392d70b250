"""What the documents say is what the program does."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from headgate.v1.error_reason_pb2 import ErrorReason
from pydantic import BaseModel

from gateway_core.config import Config, LimitsConfig, ListenConfig, LogConfig, ModelConfig, PriceConfig, ProviderConfig
from gateway_core.config_part import WebhooksConfig
from gateway_core.config_tls import ClientCertificatesConfig, CoreTlsConfig, ListenerTlsConfig, TlsConfig

ROOT = Path(__file__).parents[1]
PARTS: tuple[type[BaseModel], ...] = (
    Config, ListenConfig, ProviderConfig, ModelConfig, PriceConfig, LimitsConfig, LogConfig, WebhooksConfig,
    TlsConfig, ListenerTlsConfig, ClientCertificatesConfig, CoreTlsConfig,
)  # fmt: skip


def keys() -> Iterator[str]:
    for part in PARTS:
        yield from part.model_fields


@pytest.mark.parametrize("key", sorted(set(keys())))
def test_every_key_of_the_configuration_is_explained(key: str) -> None:
    text = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    assert f"`{key}" in text or f".{key}`" in text or f"## {key}" in text or f", {key}" in text


@pytest.mark.parametrize("reason", [name for name, number in ErrorReason.items() if number])
def test_every_reason_of_a_failure_is_explained(reason: str) -> None:
    assert f"`{reason.removeprefix('ERROR_REASON_')}`" in (ROOT / "docs/operations.md").read_text(encoding="utf-8")
