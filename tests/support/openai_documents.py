"""Documents of OpenAI's chat completion API, made from the types of the installed `openai` package.

What the package documents is walked, not listed: a field that is new there is in the documents at once.
"""

import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Required, Union, get_args, get_origin

from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import BaseModel
from typing_extensions import get_type_hints, is_typeddict

Document = dict[str, Any]
Strategy = st.SearchStrategy[Any]

REQUEST = CompletionCreateParamsNonStreaming
ANSWER = ChatCompletion
CHUNK = ChatCompletionChunk

LISTS = (list, Iterable, Sequence)

texts = st.text(min_size=1, max_size=8)
int64s = st.integers(-(2**63), 2**63 - 1)
json_values: Strategy = st.recursive(
    st.none() | st.booleans() | int64s | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
json_objects: Strategy = st.dictionaries(st.text(max_size=5), json_values, max_size=3)
unknown_fields: Strategy = st.dictionaries(st.sampled_from(["x_vendor", "Größe", "hint"]), json_values, max_size=2)

# Where a type says less than the documentation of its field.
RANGES: Mapping[str, Strategy] = {
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0, 1),
    "presence_penalty": st.floats(-2, 2),
    "frequency_penalty": st.floats(-2, 2),
    "n": st.integers(1, 128),
    "top_logprobs": st.integers(0, 20),
    "max_tokens": st.integers(1, 2**63 - 1),
    "max_completion_tokens": st.integers(1, 2**63 - 1),
    "logit_bias": st.dictionaries(texts, st.integers(-100, 100), min_size=1, max_size=3),
    "bytes": st.lists(st.integers(0, 255), max_size=4),
    "created": st.integers(1, 2**40),
    "start_index": st.integers(0, 2**31 - 1),
    "end_index": st.integers(0, 2**31 - 1),
}


def members(kind: Any) -> Mapping[str, tuple[Any, bool]]:
    """The fields of a TypedDict or a model: for each its type, and whether it must be there."""
    if issubclass(kind, BaseModel):
        return {name: (field.annotation, field.is_required()) for name, field in kind.model_fields.items()}
    # Annotations that are strings hide from `__required_keys__` what is required.
    marks: dict[str, Any] = {name: get_origin(hint) for name, hint in get_type_hints(kind, include_extras=True).items()}
    return {name: (hint, marks[name] is Required) for name, hint in get_type_hints(kind).items()}


def is_object(kind: Any) -> bool:
    """Whether a type is an object with documented fields."""
    return is_typeddict(kind) or (isinstance(kind, type) and issubclass(kind, BaseModel))


def variants(kind: Any) -> list[Any]:
    """The members of a union, null left out; the type itself where it is none."""
    if get_origin(kind) is typing.Annotated:
        return variants(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [member for arg in get_args(kind) if arg is not type(None) for member in variants(arg)]
    return [kind]


def documents(kind: Any, *, unknown: bool = True) -> Strategy:
    """Documents of a type with documented fields, with unknown fields at every level or without any."""
    required: dict[str, Strategy] = {}
    optional: dict[str, Strategy] = {}
    for name, (hint, is_required) in members(kind).items():
        # `top_logprobs` is a number in requests, and a list of objects in answers.
        is_ranged = name in RANGES and not (name == "top_logprobs" and int not in variants(hint))
        value = RANGES[name] if is_ranged else st.one_of([values(each, unknown) for each in variants(hint)])
        (required if is_required else optional)[name] = value
    known = st.fixed_dictionaries(required, optional=optional)
    return st.builds(lambda extra, document: {**extra, **document}, unknown_fields, known) if unknown else known


def values(kind: Any, unknown: bool) -> Strategy:
    """Values of one type that is no union."""
    origin, args = get_origin(kind), get_args(kind)
    if is_object(kind):
        return st.deferred(lambda: documents(kind, unknown=unknown))
    if origin is Literal:
        return st.sampled_from(args)
    if origin in LISTS:
        return st.lists(st.one_of([values(each, unknown) for each in variants(args[0])]), min_size=1, max_size=3)
    if origin is dict:
        inner = json_values if args[1] is object else st.one_of([values(each, unknown) for each in variants(args[1])])
        return st.dictionaries(texts, inner, min_size=1, max_size=3)
    plain: dict[Any, Strategy] = {
        str: texts,
        int: int64s,
        bool: st.booleans(),
        float: st.floats(allow_nan=False, allow_infinity=False),
        object: json_values,
    }
    return plain[kind]


def fullest(kind: Any) -> Iterator[Document]:
    """Documents of a type that have, together, every documented field in every documented form."""
    choices = {name: list(forms(name, hint)) for name, (hint, _) in members(kind).items()}
    for turn in range(max(len(found) for found in choices.values())):
        yield {name: found[turn % len(found)] for name, found in choices.items()}


def forms(name: str, kind: Any) -> Iterator[Any]:
    """Values of a type, one for each form that it has."""
    for each in variants(kind):
        origin, args = get_origin(each), get_args(each)
        if is_object(each):
            yield from fullest(each)
        elif origin is Literal:
            yield from args
        elif origin in LISTS:
            items = list(forms(name, args[0]))
            yield [1] if name == "bytes" else items
        elif origin is dict:
            yield {"k": next(forms(name, args[1]))}
        else:
            yield {str: "text", int: 1, bool: True, float: 0.5, object: {"any": None}}[each]


requests: Strategy = documents(REQUEST)
documented_requests: Strategy = documents(REQUEST, unknown=False)
answers: Strategy = documents(ANSWER)
chunks: Strategy = documents(CHUNK)
