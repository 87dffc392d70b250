"""What a gateway is after a change: the fields that a mask names, taken from the new values (pure)."""

from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf.message import Message
from headgate.v1.gateway_pb2 import Gateway

from gateway_core.catalog.gateway import OUTPUT_ONLY
from gateway_core.errors import InvalidRequest


def changed(old: Gateway, new: Gateway, paths: Sequence[str] | None) -> Gateway:
    """The old gateway with the fields at the paths as the new one has them; None: those that the new one sets.

    A path names a field ("instructions"), or one of a message ("parameters.temperature"). What the new one does not
    set is cleared. Raises InvalidRequest, which names the path.
    """
    result = Gateway()
    result.CopyFrom(old)
    chosen = set_fields(new) if paths is None else paths
    for path in chosen:
        names = path.split(".")
        if names[0] in OUTPUT_ONLY or path == "endpoint.masked_api_key":
            raise InvalidRequest(f"update_mask names {path[:200]}, which is output only.", param="update_mask")
        take(new, result, names, path)
        if path == "endpoint.api_key" and not new.endpoint.HasField("api_key"):
            result.endpoint.api_key = ""  # absent would be the one that is there
    return result


def set_fields(gateway: Gateway) -> Iterable[str]:
    """The fields that a gateway sets, without those that are output only, which are let pass as they were read."""
    return [field.name for field, _ in gateway.ListFields() if field.name not in OUTPUT_ONLY]


def take(source: Message, target: Message, names: Sequence[str], path: str) -> None:
    """Makes a field of the target what it is in the source."""
    name, *rest = names
    field = source.DESCRIPTOR.fields_by_name.get(name)
    if field is None or (rest and (field.message_type is None or field.is_repeated)):
        raise InvalidRequest(f"update_mask names {path[:200]}, which is no field of a gateway.", param="update_mask")
    if rest:
        take(getattr(source, name), getattr(target, name), rest, path)
        return
    target.ClearField(name)
    if not is_set(source, field):
        return
    if field.is_repeated:
        getattr(target, name).MergeFrom(getattr(source, name))
    elif field.message_type is not None:
        getattr(target, name).SetInParent()
        getattr(target, name).CopyFrom(getattr(source, name))
    else:
        setattr(target, name, getattr(source, name))


def is_set(message: Message, field: Any) -> bool:
    """Whether a message sets a field."""
    return message.HasField(field.name) if field.has_presence else bool(getattr(message, field.name))
