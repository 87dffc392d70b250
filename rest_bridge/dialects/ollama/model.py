"""Models of the contract → the entries of Ollama's lists.

Sources: ListModelResponse, ShowResponse and ModelDetails in Ollama's api/types.go. Its fields are about files, of which
there are none here: size is 0, digest is the SHA-256 of the name (so that it is stable and tells models apart, but no
content has it), and family is the name of the provider, as the nearest thing to an origin that is known.
"""

import hashlib
from typing import Any

import orjson
from headgate.v1.model_pb2 import Model

from rest_bridge.dialects.ollama.response import NANOSECONDS, timestamp

LATEST = 253_402_300_799
"""The last second of the year 9999, in seconds since 1970-01-01 UTC."""


def model_entry(model: Model) -> dict[str, Any]:
    """The model as an entry of GET /api/tags."""
    return {
        "name": model.id,
        "model": model.id,
        "modified_at": modified_at(model),
        "size": 0,
        "digest": hashlib.sha256(model.id.encode()).hexdigest(),
        "details": details(model),
        "capabilities": capabilities(model),
    }


def show_document(model: Model) -> dict[str, Any]:
    """The model as POST /api/show answers. Templates and parameters are the provider's own and not known."""
    architecture = model.owned_by or "unknown"
    info: dict[str, Any] = {"general.architecture": architecture, "general.basename": model.id}
    if model.HasField("context_length"):
        info[f"{architecture}.context_length"] = model.context_length
    return {
        "modelfile": f"# Served by way of Headgate; there is no file of it here.\nFROM {model.id}\n",
        "parameters": "",
        "template": "",
        "details": details(model),
        "model_info": info,
        "capabilities": capabilities(model),
        "modified_at": modified_at(model),
    }


def modified_at(model: Model) -> str:
    """When the provider made the model; 1970-01-01 where that is not known or makes no sense."""
    return timestamp(model.created * NANOSECONDS if 0 < model.created <= LATEST else 0)


def details(model: Model) -> dict[str, Any]:
    """What is known of the model. Empty texts: not known."""
    document: dict[str, Any] = {
        "parent_model": "",
        "format": "",
        "family": model.owned_by,
        "families": [model.owned_by] if model.owned_by else [],
        "parameter_size": "",
        "quantization_level": "",
    }
    return document | {"context_length": model.context_length} if model.HasField("context_length") else document


def capabilities(model: Model) -> list[str]:
    """What the model can do, in Ollama's words.

    Clients hide what is not listed. So tools are listed unless the provider's own list says which parameters the model
    takes ("supported_parameters", as OpenRouter's does) and tools are not among them; thinking only where they are, or
    where the model is known to reason.
    """
    stated = supported_parameters(model)
    found = {
        "completion": not model.output_modalities or "text" in model.output_modalities,
        "tools": stated is None or "tools" in stated,
        "vision": "image" in model.input_modalities,
        "thinking": "reasoning" in model.features
        or (stated is not None and bool({"reasoning", "reasoning_effort"} & stated)),
        "image": "image" in model.output_modalities,
        "audio": "audio" in model.input_modalities,
    }
    return [name for name, can in found.items() if can]


def supported_parameters(model: Model) -> set[str] | None:
    """The request parameters that the provider's own list says the model takes. None: it does not say."""
    extra = orjson.loads(model.extra_json) if model.extra_json else {}
    stated = extra.get("supported_parameters")
    return {name for name in stated if isinstance(name, str)} if isinstance(stated, list) else None
