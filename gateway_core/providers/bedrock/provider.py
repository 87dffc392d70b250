"""Amazon Bedrock in one region: asks it, and reads what it answers."""

import os
import re
import time
from collections.abc import Mapping, Sequence
from urllib.parse import quote

import orjson
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.model_pb2 import Model

from gateway_core.call import Call, Events, Given, whole
from gateway_core.config import ProviderConfig
from gateway_core.providers.bedrock.credentials import headers, resolved, signer
from gateway_core.providers.bedrock.decoder import Decoder
from gateway_core.providers.bedrock.request import FORMAT, is_satisfied, written
from gateway_core.unsupported import found, refuse_or_drop
from gateway_core.upstream.attempt import name_of_attempt
from gateway_core.upstream.event_stream import MEDIA_TYPE, MessageReader
from gateway_core.upstream.http import Upstream
from gateway_core.upstream.origin import base
from gateway_core.upstream.refusal import Refusals
from gateway_core.upstream.signature import UNRESERVED
from gateway_core.upstream.stream import refused, streamed

UNSUPPORTED = frozenset(
    {
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "min_p",
        "modalities",
        "moderation",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "seed",
        "store",
        "stream_options",
        "top_logprobs",
        "user",
        "verbosity",
        "web_search_options",
    }
)
"""What Converse has no word for."""

JSON = "application/json"

PRINCIPAL = re.compile(r"(arn:aws[\w-]*:(?:iam|sts):[\w-]*:)[^\s,\"']+")
ACCOUNT = re.compile(r"(?<=:)\d{12}(?=:)")


class Provider:
    """Bedrock in one region."""

    def __init__(self, name: str, config: ProviderConfig) -> None:
        """Takes the provider's name in the configuration, and its row; raises ValueError where keys are missing."""
        config = resolved(name, config, os.environ)
        self._unsupported = UNSUPPORTED | config.unsupported_parameters
        self._message_bytes = config.answer_bytes
        self._name = name
        self._refusals = Refusals(name, config)
        self._signer = signer(config)
        origin, self._base, query = base(name, config.base_url or "")
        if query:
            raise ValueError(f"providers.{name}.base_url must end with a path")
        self._host = origin.name
        self._upstream = Upstream(name, config, headers(config))

    async def open_chat_completion(self, call: Call[ChatCompletionSpec]) -> Events:
        """Asks for a chat completion: returns once a streamed answer has begun, or another was read to its end."""
        assert call.target is not None, "the stage `fallback` sets the target"
        model = call.target.model
        body = self._body(call)
        decoder = Decoder(self._refusals, call.request_id, model, int(time.time()))
        path = f"/model/{quote(model, safe=UNRESERVED)}/{'converse-stream' if call.stream else 'converse'}"
        sent = self._headers(path, body, MEDIA_TYPE if call.stream else JSON)
        answer = await self._upstream.open("POST", path, body=body, deadline=call.deadline, headers=sent)
        call.upstream_request_id = name_of_attempt(answer.header(b"x-amzn-requestid"))
        if answer.status >= 400:
            raise await refused(answer, self._refusals, explained)
        if MEDIA_TYPE in answer.header(b"content-type"):
            reader = MessageReader(self._message_bytes, self._name)
            events = streamed(answer, reader, decoder, self._refusals, begins)
            await anext(events)
            return events if call.stream else await whole(events)
        try:
            return Given(decoder.whole(await answer.read()))
        finally:
            answer.abort()

    async def list_models(self) -> Sequence[Model]:
        """None: another host than the one that answers knows the models, and few of them may be asked."""
        return []

    async def close(self) -> None:
        """Closes the connections."""
        await self._upstream.close()

    def _headers(self, path: str, body: bytes, accept: str) -> dict[str, str]:
        """The headers of one request, its signature among them."""
        fields = {"content-type": JSON}
        if self._signer is not None:
            signed = {"host": self._host, **fields}
            fields |= self._signer.headers("POST", self._base + path, signed, body, time.time())
        return {"accept": accept, **fields}

    def _body(self, call: Call[ChatCompletionSpec]) -> bytes:
        spec, target = call.request, call.target
        assert target is not None, "the stage `fallback` sets the target"
        unmet = found(call, self._unsupported, extra_format=FORMAT)
        dropped = [name for name in sorted(unmet) if not is_satisfied(spec, name) or name in target.unsupported]
        request = written(spec, target.model, target.unsupported | self._unsupported)
        refuse_or_drop(call, dropped)
        for name, because in request.left_out.items():
            refuse_or_drop(call, [name], because)
        call.rewrites += request.rewrites
        return orjson.dumps(request.document)


def begins(event: ChatCompletionChunk) -> bool:
    """Whether an answer has begun with an event: that it will be the assistant's is told before the model speaks."""
    if event.HasField("usage"):
        return True
    return any(
        choice.finish_reason or any(field.name != "role" for field, _ in choice.delta.ListFields())
        for choice in event.choices
    )


def explained(headers: Mapping[str, str], body: bytes) -> bytes:
    """The body of a refusal with the type that its headers tell, and without the names of accounts and their users.

    Source: https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html#operation-error-serialization
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict) or "error" in document:
        return body
    kind = headers.get("x-amzn-errortype") or document.get("__type") or document.get("code") or ""
    # "com.amazon.coral#ThrottlingException:http://…": only what stands in the middle is the name.
    name = str(kind).partition(":")[0].rpartition("#")[2]
    message = document.get("message") or document.get("Message") or ""
    hidden = ACCOUNT.sub("***", PRINCIPAL.sub(r"\1***", message)) if isinstance(message, str) else ""
    return orjson.dumps({"error": {"message": hidden, "type": name}})
