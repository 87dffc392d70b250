"""What a gateway must be: refused when it is made or changed, not when it is called (pure)."""

from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import urlsplit

from google.protobuf.unknown_fields import UnknownFieldSet
from headgate.v1 import gateway_pb2
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.gateway_pb2 import Gateway, OwnEndpoint
from headgate.v1.message_pb2 import ROLE_DEVELOPER, ROLE_SYSTEM, ROLE_UNSPECIFIED

from gateway_core.catalog.gateway import NAMES
from gateway_core.errors import InvalidRequest
from gateway_core.unsupported import extra_fields
from gateway_core.upstream.origin import Origin
from gateway_core.upstream.reach import Reach

NAME_AT_MOST = 64
ENTRIES_AT_MOST = 16
ENTRY_NAME_AT_MOST = 64
ENTRY_VALUE_AT_MOST = 512
URL_AT_MOST = 2048
PROMPT = "{prompt}"

ELSEWHERE = {"model": "model", "messages": "instructions", "prefill": "prefill", "stream_options": ""}
"""Fields of ChatCompletionSpec that are no parameters of a gateway, and the gateway's own field for the same."""

CARRIED = frozenset({"extra_json", "extra_format"})


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a gateway's model."""

    unsupported: frozenset[str] = frozenset()
    """Names of the parameters that it cannot take."""
    context_length: int | None = None
    max_output_tokens: int | None = None


def check(gateway: Gateway, facts: Facts, reach: Reach) -> None:
    """Raises InvalidRequest, which names the field; the values of parameters are left to the check of requests."""
    check_name(gateway.name)
    if gateway.HasField("endpoint"):
        check_endpoint(gateway.endpoint, reach)
    elif not gateway.model:
        refuse("model", "or endpoint is required.")
    check_words(gateway)
    check_metadata(gateway)
    check_parameters(gateway, facts)
    for index, name in enumerate(gateway.overrides.parameters):
        if name != "*" and name not in NAMES - ELSEWHERE.keys() - CARRIED | {"prefill"}:
            refuse(f"overrides.parameters[{index}]", f"is {name[:100]!r}, which is no parameter of a gateway.")
    if gateway.HasField("prefill") and "prefill" in facts.unsupported:
        refuse("prefill", "cannot be continued by the model.")
    if gateway.HasField("context_limit_tokens"):
        if gateway.context_limit_tokens < 1:
            refuse("context_limit_tokens", "must be at least 1.")
        if facts.context_length is not None and gateway.context_limit_tokens > facts.context_length:
            refuse("context_limit_tokens", f"is more than the model takes: {facts.context_length}.")


def check_name(name: str) -> None:
    """It can be part of a slug, which is neither "provider/model" nor ends anywhere but at its last colon."""
    if not 1 <= len(name) <= NAME_AT_MOST:
        refuse("name", f"must have 1 to {NAME_AT_MOST} characters.")
    if name != name.strip() or not name.isprintable() or "/" in name or ":" in name:
        refuse("name", "must be printable, without outer spaces, slashes and colons.")


def check_endpoint(endpoint: OwnEndpoint, reach: Reach) -> None:
    """It can be asked, and is not within the operator's network."""
    url = endpoint.base_url
    try:
        parts = urlsplit(url)
        origin = Origin.of(url) if parts.hostname else None
    except ValueError:  # UnicodeError is one
        origin = None
    if origin is None or not 0 < origin.port < 65536 or len(url) > URL_AT_MOST or not url.isprintable() or " " in url:
        refuse("endpoint.base_url", "must be a URL with a host.")
    if parts.scheme not in {"http", "https"} or parts.username is not None or parts.query or parts.fragment:
        refuse("endpoint.base_url", 'must begin with "http://" or "https://", and have no user name, "?" or "#".')
    if reach.refuses(origin.host):
        refuse("endpoint.base_url", "has an address that is not public.")
    if not endpoint.model:
        refuse("endpoint.model", "is required.")
    if not (endpoint.api_key.isascii() and (endpoint.api_key.isprintable())) or endpoint.api_key.strip() != (
        endpoint.api_key
    ):
        refuse("endpoint.api_key", "must be printable ASCII, without outer spaces.")


def check_words(gateway: Gateway) -> None:
    """Who speaks the instructions and where, and what stands around a prompt."""
    if gateway.instructions_role not in {ROLE_UNSPECIFIED, ROLE_SYSTEM, ROLE_DEVELOPER}:
        refuse("instructions_role", "must be ROLE_SYSTEM or ROLE_DEVELOPER.")
    if gateway.instructions_placement not in gateway_pb2.InstructionsPlacement.values():
        refuse("instructions_placement", "is not a known value.")
    if gateway.context_overflow_action not in gateway_pb2.ContextOverflowAction.values():
        refuse("context_overflow_action", "is not a known value.")
    if gateway.HasField("user_prompt_template") and PROMPT not in gateway.user_prompt_template:
        refuse("user_prompt_template", f"must contain {PROMPT}, which stands for what the caller wrote.")
    if gateway.HasField("instructions") and not gateway.instructions:
        refuse("instructions", "must not be empty; leave it out where there are none.")
    if gateway.HasField("prefill") and not gateway.prefill:
        refuse("prefill", "must not be empty; leave it out where there is none.")


def check_metadata(gateway: Gateway) -> None:
    """It is small."""
    if len(gateway.metadata) > ENTRIES_AT_MOST:
        refuse("metadata", f"must have at most {ENTRIES_AT_MOST} entries.")
    for name, value in gateway.metadata.items():
        if not 1 <= len(name) <= ENTRY_NAME_AT_MOST or len(value) > ENTRY_VALUE_AT_MOST:
            limits = f"a name of 1 to {ENTRY_NAME_AT_MOST} and a value of at most {ENTRY_VALUE_AT_MOST} characters"
            refuse(f"metadata.{name[:ENTRY_NAME_AT_MOST]}", f"must have {limits}.")


def check_parameters(gateway: Gateway, facts: Facts) -> None:
    """All of them are known, belong here, and can be taken by the model."""
    given = gateway.parameters
    if len(UnknownFieldSet(given)):
        refuse("parameters", "has fields that are not known.")
    for field, _ in given.ListFields():
        if field.name in ELSEWHERE:
            instead = ELSEWHERE[field.name]
            refuse(f"parameters.{field.name}", f"is told by {instead}." if instead else "is the caller's alone.")
        if field.name in facts.unsupported:
            refuse(f"parameters.{field.name}", "cannot be taken by the model.")
    check_extra(given, is_own=gateway.HasField("endpoint"))
    for name in ("max_tokens", "max_completion_tokens"):
        if facts.max_output_tokens is not None and getattr(given, name) > facts.max_output_tokens:
            refuse(f"parameters.{name}", f"is more than the model gives: {facts.max_output_tokens}.")


def check_extra(given: ChatCompletionSpec, *, is_own: bool) -> None:
    """Fields that are not known go to an endpoint of the owner's own only."""
    if given.extra_json and not is_own:
        names = [*extra_fields(given.extra_json), "extra_json"]
        refuse(f"parameters.{names[0][:100]}", "is not known; an endpoint of one's own may be sent any field.")


def refuse(param: str, what: str) -> NoReturn:
    """Raises InvalidRequest for a field."""
    raise InvalidRequest(f"{param} {what}", param=param)
