"""What `headgate serve` says when it starts: what was found, where it listens, and a line to try."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gateway_core.config import Config, ProviderConfig
from gateway_core.config_envoy import EnvoyTlsConfig
from gateway_core.config_tls import ListenerTlsConfig
from headgate_cli.address import Address
from headgate_cli.discovery import Findings

ECHO = "echo/echo"


@dataclass(frozen=True, slots=True)
class Startup:
    """What there is to say."""

    version: str
    config: Config
    path: Path | None
    """The configuration file; None: there is none."""
    findings: Findings | None
    """What was found in its place; None: nothing was looked for."""
    http: Address | None
    grpc: Address | None
    notes: tuple[str, ...] = ()
    has_bridge: bool = True
    """Whether SDKs can call at `http`; else it is there for health and metrics only."""
    shows_metrics: bool = False
    new_root_key: str | None = None
    """The operator's key where it was made at this start; it is told here and nowhere else."""
    needs_keys: bool = True
    """Whether every call needs a key."""
    kept: str = ""
    """Where the core keeps what it keeps. Empty: there is no core here."""

    def lines(self) -> Iterator[str]:
        """The lines, in order."""
        yield f"Headgate {self.version}"
        yield from (f"  {line}" for line in self._providers())
        yield from (f"  note: {note}" for note in self.notes)
        root_key_line = self.root_key_line()
        if root_key_line is not None:
            yield root_key_line
        if not self.needs_keys:
            yield "  note: nobody needs a key here: a call without one is the operator's (authentication: optional)"
        if self.kept:
            yield f"  data                 {self.kept}"
        if self.http is not None and self.has_bridge:
            yield f"  OpenAI SDK  base_url {self._url}/v1"
            yield f"  Ollama SDK  host     {self._url}"
        if self.grpc is not None:
            tls = "" if self.config.tls.grpc is None else " (TLS)"
            yield f"  gRPC        address  {self.grpc.reachable()}{tls}"
        if self.shows_metrics:
            yield f"  metrics              {self._url}/metrics"
        if self.http is not None and self.has_bridge:
            yield "  try it:"
            yield f"    {self._curl()}"

    def root_key_line(self) -> str | None:
        """The line that tells the operator's key; None: it was made before."""
        if self.new_root_key is None:
            return None
        return f"  root key             {self.new_root_key} (keep it: it is not told again)"

    @property
    def _url(self) -> str:
        scheme = "http" if self.config.tls.http is None else "https"
        return f"{scheme}://{self.http.reachable()}" if self.http is not None else ""

    def _providers(self) -> Iterator[str]:
        if self.path is not None:
            yield f"configuration: {self.path}"
        if self.findings is None:
            yield from (f"{name}: {shown_place(row)}" for name, row in self.config.providers.items())
            return
        yield from (f"{found.name}: {found.origin}" for found in self.findings.found)
        yield from (f"note: {note}" for note in self.findings.notes)
        if not self.findings.found:
            yield "no provider was found: set a key such as OPENAI_API_KEY, start Ollama, or write headgate.yaml"
        yield f"echo: {ECHO} always answers with what it is told; it is no model"

    def _model(self) -> str:
        own = self.config.providers.get("echo")
        if own is not None and own.kind != "echo":
            return next(iter(self.config.models), "echo/MODEL")
        return (self.findings.model() if self.findings else None) or ECHO

    def _curl(self) -> str:
        body = {"model": self._model(), "messages": [{"role": "user", "content": "Hello!"}]}
        headers = "-H 'content-type: application/json'"
        if self.config.tls.http is not None:
            headers += curl_tls(self.config.tls.http)
        if self.needs_keys:
            headers += " -H 'authorization: Bearer YOUR_KEY'"
        return f"curl {self._url}/v1/chat/completions {headers} -d {shlex.quote(json.dumps(body))}"


def curl_tls(tls: ListenerTlsConfig | EnvoyTlsConfig) -> str:
    """What curl has to be told beside: whom it trusts, and what it shows."""
    shown = " --cert YOUR_CERTIFICATE --key YOUR_KEY_FILE" if tls.client_authorities is not None else ""
    return f" --cacert YOUR_AUTHORITY{shown}"


def shown_place(row: ProviderConfig) -> str:
    """Where a provider is."""
    if row.kind == "bedrock" and row.base_url is None:
        return f"Amazon Bedrock in {row.aws.region}" if row.aws and row.aws.region else "Amazon Bedrock"
    return shown_url(row.base_url)


def shown_url(base_url: str | None) -> str:
    """A base URL without the credentials and parameters that one can hold."""
    if base_url is None:
        return "in this process"
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
