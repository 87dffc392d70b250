"""GET /, /api/version, /api/tags, /api/ps, POST /api/show (docs/api.md of Ollama), and what is not offered."""

import orjson
from grpc import StatusCode, aio
from headgate.v1.model_service_pb2 import GetModelRequest, ListModelsRequest
from headgate.v1.model_service_pb2_grpc import ModelServiceStub

from rest_bridge.dialects.ollama.model import model_entry, show_document
from rest_bridge.dialects.ollama.request import asked_model
from rest_bridge.errors import Failure, Refused
from rest_bridge.exchange import Exchange

# The release of Ollama whose API this is. Clients refuse older ones: VS Code's Copilot Chat asks for 0.6.4 at least.
VERSION = "0.32.15"

TEXT = ((b"content-type", b"text/plain; charset=utf-8"),)


class Tags:
    """Tells which models can be asked."""

    def __init__(self, channel: aio.Channel) -> None:
        """Takes the way to the core."""
        self._stub = ModelServiceStub(channel)

    async def list(self, exchange: Exchange) -> None:
        """Lists the models."""
        response = await self._stub.ListModels(
            ListModelsRequest(), metadata=exchange.metadata(), timeout=exchange.timeout()
        )
        await exchange.respond(200, orjson.dumps({"models": [model_entry(model) for model in response.models]}))

    async def show(self, exchange: Exchange) -> None:
        """Tells of one model."""
        request = GetModelRequest(id=asked_model(await exchange.body_json()))
        response = await self._stub.GetModel(request, metadata=exchange.metadata(), timeout=exchange.timeout())
        await exchange.respond(200, orjson.dumps(show_document(response.model)))


async def show_loaded(exchange: Exchange) -> None:
    """Lists the models that are loaded into this machine's memory: none ever is."""
    await exchange.respond(200, orjson.dumps({"models": []}))


async def show_version(exchange: Exchange) -> None:
    """Tells the version."""
    await exchange.respond(200, orjson.dumps({"version": VERSION}))


async def greet(exchange: Exchange) -> None:
    """Says what Ollama says, by which clients find out whether it runs."""
    await exchange.respond(200, b"Ollama is running", TEXT)


async def refuse_operation(exchange: Exchange) -> None:
    """Says that an operation of Ollama is not offered."""
    operation = str(exchange.scope["path"]).partition("/api/")[2].removeprefix("v1/ollama/api/")[:100]
    message = f"Headgate does not offer '{operation}': its models are those of its configuration and its providers"
    raise Refused(Failure(StatusCode.UNIMPLEMENTED, "ERROR_REASON_UNIMPLEMENTED", message))


async def refuse_path(exchange: Exchange) -> None:
    """Says that there is no such path."""
    raise Refused(Failure.route_not_found(exchange.method, str(exchange.scope["path"])))
