"""The contract as a set of descriptors, which is what Envoy's transcoder reads it in; no protoc is needed."""

from google.api.annotations_pb2 import http
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.rpc import error_details_pb2
from headgate.v1 import (
    account_service_pb2,
    balance_service_pb2,
    gateway_service_pb2,
    key_service_pb2,
    model_service_pb2,
    plan_service_pb2,
    usage_service_pb2,
)

ADMINISTRATIVE = (
    account_service_pb2,
    balance_service_pb2,
    gateway_service_pb2,
    key_service_pb2,
    model_service_pb2,
    plan_service_pb2,
    usage_service_pb2,
)
"""The files whose RPCs have google.api.http annotations."""
PATTERNS = ("get", "put", "post", "delete", "patch")
BODY = "body"
"""The field of a response that is a google.api.HttpBody."""


def services() -> list[str]:
    """The full names of the services that have paths."""
    files = [module.DESCRIPTOR for module in ADMINISTRATIVE]
    return [service.full_name for file in files for service in file.services_by_name.values()]


def descriptor_set(prefix: str = "") -> bytes:
    """A google.protobuf.FileDescriptorSet of the administrative services and all that they need, the needed first.

    The prefix stands before each path of their annotations: "/proto" makes "/proto/api/v1/keys" of "/api/v1/keys".
    Where they name one field as the answer (`response_body`) that is left out, since Envoy's transcoder takes it for
    google.api.HttpBody alone: the answer is the response whole. The details of failures are in the set too, so that a
    google.rpc.Status can be printed.
    """
    found: dict[str, FileDescriptorProto] = {}
    for file in (*(module.DESCRIPTOR for module in ADMINISTRATIVE), error_details_pb2.DESCRIPTOR):
        _add(file, found)
    for module in ADMINISTRATIVE:
        for service in found[module.DESCRIPTOR.name].service:
            for method in service.method:
                if method.options.HasExtension(http):
                    _fit(method.options.Extensions[http], prefix)
    return FileDescriptorSet(file=found.values()).SerializeToString(deterministic=True)


def _add(file: FileDescriptor, found: dict[str, FileDescriptorProto]) -> None:
    if file.name not in found:
        for needed in file.dependencies:
            _add(needed, found)
        copy = FileDescriptorProto()
        file.CopyToProto(copy)
        found[file.name] = copy


def _fit(rule: HttpRule, prefix: str) -> None:
    for pattern in PATTERNS:
        if rule.HasField(pattern):
            setattr(rule, pattern, prefix + getattr(rule, pattern))
    if rule.response_body != BODY:
        rule.ClearField("response_body")
    for more in rule.additional_bindings:
        _fit(more, prefix)
