"""The description of chat completions and models: OpenAI's API (platform.openai.com/docs/api-reference)."""

from typing import Any

from rest_bridge.dialects.admin.status import BARE, EVERY, WITH_BODY, name

TAG = "Chat completions"
OWN = {402: "The balance, or the spend cap, does not cover the call."}
OF_PROVIDERS = {
    502: "The provider could not be reached, or its answer made no sense.",
    504: "The provider was silent for too long.",
}


def ref(schema: str) -> dict[str, str]:
    """What refers to a schema."""
    return {"$ref": f"#/components/schemas/{schema}"}


def completion_paths() -> dict[str, Any]:
    """The paths, in their first spelling."""
    listed = {"type": "object", "properties": {"object": {"const": "list"}, "data": array(ref("Model"))}}
    model = {
        "name": "id",
        "in": "path",
        "required": True,
        "description": "Name of the model; its slashes may be encoded or not.",
        "schema": {"type": "string", "minLength": 1},
    }
    return {
        "/v1/chat/completions": {"post": create()},
        "/v1/models": {"get": read("ListModels", "Lists the models that can be asked", listed, [])},
        "/v1/models/{id}": {"get": read("GetModel", "Tells of one model", ref("Model"), [model])},
    }


def create() -> dict[str, Any]:
    """The operation that answers a chat completion."""
    events = {"schema": {"type": "string", "description": "Events whose data is a chunk, then one that is [DONE]."}}
    return {
        "operationId": "CreateChatCompletion",
        "tags": [TAG],
        "summary": "Answers a chat completion, whole or as server-sent events",
        "description": "Also at /api/v1/chat/completions and /api/v1/open-ai/chat/completions.",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": ref("ChatCompletionRequest")}},
        },
        "responses": {
            "200": {
                "description": "The completion; events where stream is true.",
                "content": {"application/json": {"schema": ref("ChatCompletion")}, "text/event-stream": events},
            },
            **failures({**EVERY, **WITH_BODY, **OWN, **OF_PROVIDERS}),
            "4XX": failure("The provider refused the request, with this status."),
            "5XX": failure("The provider failed, with this status."),
        },
    }


def read(operation: str, summary: str, schema: dict[str, Any], parameters: list[Any]) -> dict[str, Any]:
    """An operation that tells of models."""
    return {
        "operationId": operation,
        "tags": [TAG],
        "summary": summary,
        "description": "Also under /api/v1 and /api/v1/open-ai.",
        "parameters": parameters,
        "responses": {
            "200": {"description": "OK", "content": {"application/json": {"schema": schema}}},
            **failures({**EVERY, **OF_PROVIDERS}),
        },
    }


def failures(told: dict[int, str]) -> dict[str, Any]:
    """Failures by status, in OpenAI's shape."""
    bare = {str(status): {"$ref": f"#/components/responses/{name(status)}"} for status in BARE}
    return {**{str(status): failure(text) for status, text in told.items()}, **bare}


def failure(description: str) -> dict[str, Any]:
    """One failure in OpenAI's shape."""
    return {"description": description, "content": {"application/json": {"schema": ref("OpenAIError")}}}


def completion_schemas() -> dict[str, Any]:
    """The schemas of what is sent and answered. Requests may have more fields: they are passed to the provider."""
    return {
        "ChatCompletionRequest": request(),
        "ChatCompletionMessage": message(),
        "ChatCompletion": completion(),
        "Model": {
            "type": "object",
            "description": "A model that can be asked.",
            "properties": {
                "id": {"type": "string"},
                "object": {"const": "model"},
                "created": {"type": "integer"},
                "owned_by": {"type": "string"},
            },
            "required": ["id", "object", "created", "owned_by"],
        },
        "OpenAIError": openai_error(),
    }


def request() -> dict[str, Any]:
    """The schema of a request."""
    number = {"type": ["number", "null"]}
    return {
        "type": "object",
        "description": "A conversation to be continued. Other fields are passed to the provider as they are.",
        "properties": {
            "model": {"type": "string", "minLength": 1, "description": "A model, or a gateway's id or slug."},
            "messages": {**array(ref("ChatCompletionMessage")), "minItems": 1},
            "stream": {"type": ["boolean", "null"], "description": "Whether the answer comes as events."},
            "temperature": {**number, "minimum": 0, "maximum": 2},
            "top_p": {**number, "minimum": 0, "maximum": 1},
            "max_completion_tokens": {"type": ["integer", "null"], "minimum": 1},
            "stop": {"anyOf": [{"type": "string"}, array({"type": "string"}), {"type": "null"}]},
            "seed": {"type": ["integer", "null"], "format": "int64"},
            "reasoning_effort": {"type": ["string", "null"]},
            "tools": array({"type": "object"}),
        },
        "required": ["model", "messages"],
    }


def message() -> dict[str, Any]:
    """The schema of a message of the conversation."""
    roles = ["system", "developer", "user", "assistant", "tool", "function"]
    content = {"anyOf": [{"type": "string"}, array({"type": "object"}), {"type": "null"}]}
    return {
        "type": "object",
        "properties": {"role": {"type": "string", "enum": roles}, "content": content},
        "required": ["role"],
    }


def completion() -> dict[str, Any]:
    """The schema of a completion."""
    choice = {
        "type": "object",
        "properties": {
            "index": {"type": "integer"},
            "message": {"type": "object"},
            "finish_reason": {"type": ["string", "null"]},
        },
        "required": ["index", "message"],
    }
    return {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "chat.completion"},
            "created": {"type": "integer"},
            "model": {"type": "string"},
            "choices": array(choice),
            "usage": {"type": ["object", "null"]},
        },
        "required": ["id", "object", "created", "model", "choices"],
    }


def openai_error() -> dict[str, Any]:
    """The schema of OpenAI's error document."""
    text = {"type": ["string", "null"]}
    error = {
        "type": "object",
        "properties": {"message": {"type": "string"}, "type": {"type": "string"}, "param": text, "code": text},
        "required": ["message", "type", "param", "code"],
    }
    return {"type": "object", "properties": {"error": error}, "required": ["error"]}


def array(items: dict[str, Any]) -> dict[str, Any]:
    """The schema of an array."""
    return {"type": "array", "items": items}
