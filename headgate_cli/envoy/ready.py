"""Where to call by way of an Envoy that has started, told once something behind it is there for calls."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx

from gateway_core.config import Config
from headgate_cli.address import Address
from headgate_cli.startup import curl_tls

ASKED_EVERY_SECONDS = 0.1
ANSWERED_WITHIN_SECONDS = 5.0


async def listening(place: Path) -> list[Address]:
    """Waits for the Envoy whose administration's address is in a file, and returns where it listens."""
    async with httpx.AsyncClient(trust_env=False, timeout=ANSWERED_WITHIN_SECONDS) as admin:
        while True:
            base_url = _base_url(place)
            if base_url is not None and await _is_ready(admin, base_url):
                break
            await asyncio.sleep(ASKED_EVERY_SECONDS)
        listeners = (await admin.get(f"{base_url}/listeners", params={"format": "json"})).json()["listener_statuses"]
    (listener,) = listeners
    bound = [listener["local_address"], *listener.get("additional_local_addresses", ())]
    return [Address(each["socket_address"]["address"], each["socket_address"]["port_value"]) for each in bound]


def _base_url(place: Path) -> str | None:
    """Where the administration is; None: the file is not written yet."""
    address = place.read_text(encoding="utf-8").strip() if place.is_file() else ""
    return f"http://{address}" if address else None


async def _is_ready(admin: httpx.AsyncClient, base_url: str) -> bool:
    """Whether it listens, and each cluster has an endpoint that is well."""
    try:
        if (await admin.get(f"{base_url}/ready")).status_code != httpx.codes.OK:
            return False
        wanted = {"filter": r"^cluster\.(core|bridge)\.membership_healthy$", "format": "json"}
        healthy = (await admin.get(f"{base_url}/stats", params=wanted)).json()["stats"]
    except httpx.TransportError:
        return False
    return all(row["value"] for row in healthy)


def lines(config: Config, places: list[Address], *, needs_keys: bool) -> Iterator[str]:
    """Takes what the Envoy's configuration was written from, where it listens, and whether every call needs a key."""
    tls = config.envoy.tls
    scheme = "http" if tls is None else "https"
    first = places[0].reachable()
    yield f"Envoy listens on {', '.join(map(str, places))}; call there, not past it:"
    yield f"  OpenAI SDK  base_url {scheme}://{first}/v1"
    yield f"  Ollama SDK  host     {scheme}://{first}"
    yield f"  gRPC        address  {first}{'' if tls is None else ' (TLS)'}"
    trusted = "" if tls is None else curl_tls(tls)
    key = " -H 'authorization: Bearer YOUR_KEY'" if needs_keys else ""
    yield f"  try it: curl {scheme}://{first}/v1/models{trusted}{key}"
