"""The options of a chat completion that are objects: OpenAI's JSON becomes the contract."""

from headgate.v1.chat_pb2 import (
    ApproximateLocation,
    AudioOptions,
    JsonSchema,
    Moderation,
    ModerationPolicy,
    Prediction,
    PromptCacheOptions,
    ResponseFormat,
    StreamOptions,
    UserLocation,
    WebSearchOptions,
)

from rest_bridge.body import Fields, missing, mistyped
from rest_bridge.dialects.openai.message import content


def stream_options(fields: Fields) -> StreamOptions:
    """How the answer is streamed."""
    return StreamOptions(
        include_usage=fields.boolean("include_usage"),
        include_obfuscation=fields.boolean("include_obfuscation"),
        extra_json=fields.extra_json(),
    )


def response_format(fields: Fields) -> ResponseFormat:
    """The form that the answer must have."""
    kind = fields.required_text("type")
    schema = fields.required_fields("json_schema") if kind == "json_schema" else fields.fields("json_schema")
    return ResponseFormat(
        type=kind, json_schema=json_schema(schema) if schema else None, extra_json=fields.extra_json()
    )


def json_schema(fields: Fields) -> JsonSchema:
    """A JSON Schema with a name."""
    return JsonSchema(
        name=fields.required_text("name"),
        description=fields.text("description"),
        schema_json=fields.object_json("schema"),
        strict=fields.boolean("strict"),
        extra_json=fields.extra_json(),
    )


def audio_options(fields: Fields) -> AudioOptions:
    """How a spoken answer sounds."""
    name: str | None = None
    voice_id: str | None = None
    voice = fields.peek("voice")
    if type(voice) is str:
        name = fields.text("voice")
    elif type(voice) is dict:
        named = Fields(voice, fields.at("voice"))
        voice_id = named.required_text("id")
        if named.extra_json():
            # The contract has a place for the id only: the object stays among the unknown fields.
            voice_id = None
        else:
            fields.drop("voice")
    elif voice is not None:
        raise mistyped(fields.at("voice"), "a string or an object", voice)
    return AudioOptions(
        voice_name=name, voice_id=voice_id, format=fields.text("format") or "", extra_json=fields.extra_json()
    )


def prediction(fields: Fields) -> Prediction:
    """Text that the answer is expected to repeat."""
    kind = fields.required_text("type")
    if "content" not in fields:
        raise missing(fields.at("content"))
    text, parts = content(fields)
    return Prediction(type=kind, text=text, parts=parts, extra_json=fields.extra_json())


def prompt_cache_options(fields: Fields) -> PromptCacheOptions:
    """Options of the prompt cache."""
    return PromptCacheOptions(mode=fields.text("mode"), ttl=fields.text("ttl"), extra_json=fields.extra_json())


def web_search_options(fields: Fields) -> WebSearchOptions:
    """Options of the provider's own web search."""
    location = fields.fields("user_location")
    return WebSearchOptions(
        search_context_size=fields.text("search_context_size"),
        user_location=user_location(location) if location else None,
        extra_json=fields.extra_json(),
    )


def user_location(fields: Fields) -> UserLocation:
    """Where the user is."""
    place = fields.fields("approximate")
    return UserLocation(
        type=fields.required_text("type"),
        approximate=ApproximateLocation(
            city=place.text("city"),
            country=place.text("country"),
            region=place.text("region"),
            timezone=place.text("timezone"),
            extra_json=place.extra_json(),
        )
        if place
        else None,
        extra_json=fields.extra_json(),
    )


def moderation(fields: Fields) -> Moderation:
    """Moderation that the provider runs."""
    policy = fields.fields("policy")
    return Moderation(
        model=fields.required_text("model"),
        policy=ModerationPolicy(
            input_mode=moderation_mode(policy, "input"),
            output_mode=moderation_mode(policy, "output"),
            extra_json=policy.extra_json(),
        )
        if policy
        else None,
        extra_json=fields.extra_json(),
    )


def moderation_mode(policy: Fields, name: str) -> str | None:
    """What is done with what is flagged; None where it is not told, or told with more than the contract can take."""
    if name not in policy:
        policy.drop(name)
        return None
    side = Fields(policy.peek(name), policy.at(name))
    mode = side.required_text("mode")
    if side.extra_json():
        return None
    policy.drop(name)
    return mode
