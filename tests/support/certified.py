"""A gateway in this process that asks for certificates and knows accounts by them, and callers of all kinds."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc import aio
from headgate.v1.account_pb2 import Account
from headgate.v1.account_service_pb2 import CreateAccountRequest, GetAccountRequest
from headgate.v1.account_service_pb2_grpc import AccountServiceStub
from headgate.v1.chat_completion_service_pb2 import CreateChatCompletionRequest, StreamChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ROLE_USER
from headgate.v1.usage_pb2 import UsageRecord
from headgate.v1.usage_service_pb2 import ListUsageRecordsRequest
from headgate.v1.usage_service_pb2_grpc import UsageServiceStub

from gateway_core.config import Config
from gateway_core.storage.store import Store
from tests.support.authority import Authority, Issued
from tests.support.gateway import Gateway, running
from tests.support.kept import ROOT, SECRET_KEY, bearer

API = "spiffe://example.org/ns/search/sa/api"
ENVOY = "spiffe://example.org/envoy"
LOST = "spiffe://example.org/lost"
SECONDS = 20
SPEC = ChatCompletionSpec(model="echo/echo")
SPEC.messages.add(role=ROLE_USER, text="Hello")


@dataclass
class Certified:
    """What a test needs of it."""

    gateway: Gateway
    authority: Authority
    accounts: dict[str, str]
    """The ids of the accounts: "acme", "globex", "root"."""
    secret: str
    """A key of "globex"."""
    operator: Issued
    """A certificate that is no account's."""

    def channel(self, issued: Issued) -> aio.Channel:
        """A channel that shows a certificate, and has a connection of its own."""
        return secure(self.gateway.grpc_address, self.authority, issued)

    async def record(self, request_id: str) -> UsageRecord:
        """What the ledger has of a call."""
        async with self.channel(self.operator) as channel:
            request = ListUsageRecordsRequest(request_id=request_id, include_sub_accounts=True)
            usage = UsageServiceStub(channel)
            (found,) = (await usage.ListUsageRecords(request, metadata=bearer(ROOT), timeout=SECONDS)).records
            record: UsageRecord = found
            return record


def secure(address: str, authority: Authority, issued: Issued | None) -> aio.Channel:
    """A channel with a connection of its own."""
    key, shown = (None, None) if issued is None else (issued.private_key.read_bytes(), issued.certificate.read_bytes())
    credentials = grpc.ssl_channel_credentials(authority.file.read_bytes(), key, shown)
    return aio.secure_channel(address, credentials, [("grpc.use_local_subchannel_pool", 1)])


@asynccontextmanager
async def certified(directory: Path, **settings: Any) -> AsyncIterator[Certified]:
    """API is "acme", and so is the common name "batch"; LOST is an account that nobody has made; ENVOY is a proxy."""
    authority = Authority(directory / "tls")
    server = authority.issue("server")
    listener = {
        "certificate": server.certificate,
        "private_key": server.private_key,
        "client_authorities": authority.file,
    }
    config = {
        "tls": {"grpc": listener},
        "client_certificates": {
            "accounts": {API: "acme", "CN=batch": "acme", LOST: "lost", "CN=operator": "root"},
            "proxies": [ENVOY, "CN=edge"],
        },
        **settings,
    }
    store = Store.at(None, directory, {"HEADGATE_SECRET_KEY": SECRET_KEY})
    operator = authority.issue("nobody", common_name="nobody")
    async with running(Config.model_validate(config), store=store, root_key=ROOT) as gateway:
        ids, secrets = {}, {}
        async with secure(gateway.grpc_address, authority, operator) as channel:
            accounts = AccountServiceStub(channel)
            for name in ("acme", "globex"):
                request = CreateAccountRequest(account=Account(name=name, external_ref=name))
                made = await accounts.CreateAccount(request, metadata=bearer(ROOT), timeout=SECONDS)
                ids[name], secrets[name] = made.account.id, made.secret
            root = await accounts.GetAccount(GetAccountRequest(id="me"), metadata=bearer(ROOT), timeout=SECONDS)
            ids["root"] = root.account.id
        yield Certified(gateway, authority, ids, secrets["globex"], operator)


async def asked(
    channel: aio.Channel, way: str, metadata: tuple[tuple[str, str], ...], labels: Mapping[str, str] | None = None
) -> str:
    """Asks the echo or, by way of "account", who calls. Returns the id of the call, or of the account."""
    spec = ChatCompletionSpec(metadata=labels)
    spec.MergeFrom(SPEC)
    if way == "account":
        found = await AccountServiceStub(channel).GetAccount(
            GetAccountRequest(id="me"), metadata=metadata, timeout=SECONDS
        )
        return str(found.account.id)
    chat: Any = ChatCompletionServiceStub(channel)
    if way == "unary":
        call = chat.CreateChatCompletion(CreateChatCompletionRequest(spec=spec), metadata=metadata, timeout=SECONDS)
        assert (await call).completion.choices[0].message.content == "Hello"
    else:
        call = chat.StreamChatCompletion(StreamChatCompletionRequest(spec=spec), metadata=metadata, timeout=SECONDS)
        text = [choice.delta.content async for event in call for choice in event.chunk.choices]
        assert "".join(text) == "Hello"
    return next(str(value) for key, value in await call.trailing_metadata() if key == "x-headgate-request-id")
