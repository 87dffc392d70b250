"""Which path and method calls which RPC, as the google.api.http annotations of the contract say."""

import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module

import headgate.v1
from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor

# The models are at OpenAI's paths, in OpenAI's shape, which its SDKs read.
ELSEWHERE = frozenset({"ModelService"})

MASK = "update_mask"
"""The field of a request that names what is changed."""

VARIABLE = re.compile(r"\{([a-z_][a-z0-9_.]*)(=\*\*)?\}")


@dataclass(frozen=True, slots=True)
class Binding:
    """One HTTP method of one path, and the RPC that it calls (google/api/http.proto)."""

    method: MethodDescriptor
    verb: str
    """The HTTP method: "GET"."""
    template: str
    """The path as annotated: "/api/v1/keys/{key.id}"."""
    body: str
    """The request's field that the body is; "*" for the request itself, "" for none."""
    response_body: str
    """The response's field that is answered; "" for the response itself."""
    is_alias: bool
    """Whether it is one of additional_bindings."""

    @property
    def variables(self) -> tuple[str, ...]:
        """Paths of the request's fields that the path gives, in its order."""
        return tuple(found[1] for found in VARIABLE.finditer(self.template))

    @property
    def pattern(self) -> str:
        """The path as Starlette's routes write it, its variables by number: "/api/v1/keys/{v0}"."""
        numbers = iter(range(len(self.variables)))
        return VARIABLE.sub(lambda found: f"{{v{next(numbers)}{':path' if found[2] else ''}}}", self.template)

    @property
    def body_field(self) -> FieldDescriptor | None:
        """The field that the body is; None where it is the request itself, or there is none."""
        return None if self.body in ("", "*") else self.method.input_type.fields_by_name[self.body]

    @property
    def resource(self) -> Descriptor | None:
        """The message whose fields an update mask names; None where the request takes no mask."""
        field = self.body_field
        takes_mask = MASK in self.method.input_type.fields_by_name
        return field.message_type if field is not None and takes_mask else None


def services() -> Iterator[ServiceDescriptor]:
    """The services of the contract, by name."""
    for module in pkgutil.iter_modules(headgate.v1.__path__):
        if module.name.endswith("_service_pb2"):
            file = import_module(f"headgate.v1.{module.name}").DESCRIPTOR
            yield from file.services_by_name.values()


def bindings() -> list[Binding]:
    """The bindings of every RPC that has annotations, in the contract's order."""
    return [
        binding
        for service in services()
        if service.name not in ELSEWHERE
        for method in service.methods
        if method.GetOptions().HasExtension(annotations_pb2.http)
        for binding in _bindings(method)
    ]


def _bindings(method: MethodDescriptor) -> Iterator[Binding]:
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    yield _binding(method, rule, is_alias=False)
    for additional in rule.additional_bindings:
        yield _binding(method, additional, is_alias=True)


def _binding(method: MethodDescriptor, rule: http_pb2.HttpRule, *, is_alias: bool) -> Binding:
    verb = rule.WhichOneof("pattern")
    return Binding(method, verb.upper(), getattr(rule, verb), rule.body, rule.response_body, is_alias)
