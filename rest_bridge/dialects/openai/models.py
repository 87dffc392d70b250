"""GET /v1/models and /v1/models/{id} (https://platform.openai.com/docs/api-reference/models)."""

import orjson
from grpc import aio
from headgate.v1.model_service_pb2 import GetModelRequest, ListModelsRequest
from headgate.v1.model_service_pb2_grpc import ModelServiceStub

from rest_bridge.dialects.openai.response import model_document, models_document
from rest_bridge.exchange import Exchange


class Models:
    """Tells which models can be asked."""

    def __init__(self, channel: aio.Channel) -> None:
        """Takes the way to the core."""
        self._stub = ModelServiceStub(channel)

    async def list(self, exchange: Exchange) -> None:
        """Lists the models."""
        response = await self._stub.ListModels(
            ListModelsRequest(), metadata=exchange.metadata(), timeout=exchange.timeout()
        )
        await exchange.respond(200, orjson.dumps(models_document(response.models)))

    async def get(self, exchange: Exchange) -> None:
        """Tells of one model."""
        response = await self._stub.GetModel(
            GetModelRequest(id=exchange.path_params["id"]), metadata=exchange.metadata(), timeout=exchange.timeout()
        )
        await exchange.respond(200, orjson.dumps(model_document(response.model)))
