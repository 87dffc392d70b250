"""What every file of proto/headgate/v1 keeps to, beside what buf lint sees."""

import re
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from google.api import annotations_pb2, field_behavior_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc import StatusCode, aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_status import rpc_status
from grpc_tools import protoc

from gateway_core.config import Config
from gateway_core.server import SERVICES
from tests.support.gateway import running

ROOT = Path(__file__).parents[2] / "proto"
NAMES = sorted(path.stem for path in ROOT.glob("headgate/v1/*.proto"))
MODULES = {name: import_module(f"headgate.v1.{name}_pb2") for name in NAMES}
BY_NAME = {
    service.full_name: service for module in MODULES.values() for service in module.DESCRIPTOR.services_by_name.values()
}
# All but these are administrative: REST reaches these through dialects of their own.
DIALECTS_OWN = {"headgate.v1.ChatCompletionService"}
RPCS: dict[str, MethodDescriptor] = {
    f"{service.name}.{method.name}": method for service in BY_NAME.values() for method in service.methods
}
ADMIN = {name: rpc for name, rpc in RPCS.items() if rpc.containing_service.full_name not in DIALECTS_OWN}
# OpenAI's own messages say in words what is required: what is missing there is told by the core.
ADMIN_FILES = {name for name in NAMES if name.split("_")[0] not in {"chat", "error", "message", "token", "tool"}}
NOT_YET = {
    "headgate.v1.AccountService",
    "headgate.v1.BalanceService",
    "headgate.v1.GatewayService",
    "headgate.v1.KeyService",
    "headgate.v1.PlanService",
    "headgate.v1.UsageService",
}
# What the path begins with, for each resource of the REST API.
PREFIXES = (
    "accounts",
    "ai-gateways",
    "balance",
    "gateways",
    "keys",
    "models",
    "plans",
    "usage/export",
    "usage/records",
    "usage/summary",
)
VARIABLE = re.compile(r"\{([a-z_.]+)(=\*\*)?\}")


def fields(message: Descriptor) -> Iterator[FieldDescriptor]:
    """The fields of a message and of those that it declares."""
    yield from message.fields
    for nested in message.nested_types:
        yield from fields(nested)


FIELDS_OF = {
    name: [field for message in module.DESCRIPTOR.message_types_by_name.values() for field in fields(message)]
    for name, module in MODULES.items()
}
FIELDS = {field.full_name: field for several in FIELDS_OF.values() for field in several}


def rules(rpc: MethodDescriptor) -> list[HttpRule]:
    """The annotation of an RPC and its additional bindings."""
    rule = rpc.GetOptions().Extensions[annotations_pb2.http]
    return [rule, *rule.additional_bindings]


def route(rule: HttpRule) -> tuple[str, str]:
    """Verb and template."""
    verb = rule.WhichOneof("pattern")
    assert verb
    return verb, getattr(rule, verb)


def field_at(message: Descriptor, path: str) -> FieldDescriptor:
    """The field that a path names, from a message on."""
    name, _, rest = path.partition(".")
    field = message.fields_by_name[name]
    if not rest:
        return field
    assert field.message_type
    return field_at(field.message_type, rest)


def behaviors(field: FieldDescriptor) -> set[int]:
    return set(field.GetOptions().Extensions[field_behavior_pb2.field_behavior])


@pytest.mark.parametrize("name", ADMIN)
def test_an_administrative_rpc_has_a_path_that_its_request_fills(name: str) -> None:
    rpc = ADMIN[name]
    assert rpc.GetOptions().HasExtension(annotations_pb2.http)
    for rule in rules(rpc):
        _, template = route(rule)
        assert template.startswith("/api/v1/")
        assert template.removeprefix("/api/v1/").startswith(PREFIXES)
        for path, _ in VARIABLE.findall(template):
            field = field_at(rpc.input_type, path)
            assert field.type == FieldDescriptor.TYPE_STRING
            assert not field.is_repeated
        assert "{" not in VARIABLE.sub("", template)


@pytest.mark.parametrize("name", ADMIN)
def test_an_administrative_rpc_takes_and_gives_the_bodies_of_its_verb(name: str) -> None:
    rpc = ADMIN[name]
    for rule in rules(rpc):
        verb, _ = route(rule)
        assert bool(rule.body) == (verb in {"post", "patch"})
        for body, message in ((rule.body, rpc.input_type), (rule.response_body, rpc.output_type)):
            if body not in ("", "*"):
                assert message.fields_by_name[body].message_type is not None
        # A response that is only one message is that message's document; one of several fields is itself.
        only = [field.name for field in rpc.output_type.fields if field.message_type and not field.is_repeated]
        assert rule.response_body == (only[0] if len(only) == len(rpc.output_type.fields) == 1 else "")


def test_a_path_is_there_once() -> None:
    routes = Counter(
        (verb, VARIABLE.sub("{}", template))
        for rpc in ADMIN.values()
        for verb, template in (route(rule) for rule in rules(rpc))
    )
    assert [found for found, count in routes.items() if count > 1] == []


def test_the_alias_of_gateways_has_every_path_of_theirs() -> None:
    templates = {route(rule) for rpc in ADMIN.values() for rule in rules(rpc)}
    theirs = {(verb, path) for verb, path in templates if path.startswith("/api/v1/gateways")}
    aliases = {(verb, path) for verb, path in templates if path.startswith("/api/v1/ai-gateways")}
    assert aliases == {(verb, path.replace("/gateways", "/ai-gateways")) for verb, path in theirs}
    assert len(theirs) == 5


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_resource_of_the_rest_api_can_be_asked_for(prefix: str) -> None:
    templates = {route(rule) for rpc in ADMIN.values() for rule in rules(rpc)}
    assert ("get", f"/api/v1/{prefix}") in templates


@pytest.mark.parametrize("name", RPCS)
def test_an_rpc_has_a_request_and_a_response_of_its_own(name: str) -> None:
    rpc = RPCS[name]
    assert (rpc.input_type.name, rpc.output_type.name) == (f"{rpc.name}Request", f"{rpc.name}Response")


@pytest.mark.parametrize("name", [name for name in ADMIN if ".List" in name and name != "ModelService.ListModels"])
def test_a_list_is_read_in_pages(name: str) -> None:
    rpc = ADMIN[name]
    (listed,) = [field for field in rpc.output_type.fields if field.is_repeated]
    assert listed.message_type
    assert rpc.output_type.fields_by_name["next_page_token"].number == 2
    assert [rpc.input_type.fields_by_name[page].number for page in ("page_size", "page_token")] == [1, 2]


@pytest.mark.parametrize("name", [name for name in ADMIN if ".Update" in name])
def test_a_change_has_a_mask_and_names_what_it_changes_in_the_path(name: str) -> None:
    rpc = ADMIN[name]
    body = rules(rpc)[0].body
    assert [field.name for field in rpc.input_type.fields] == [body, "update_mask"]
    mask = rpc.input_type.fields_by_name["update_mask"].message_type
    assert mask
    assert mask.full_name == "google.protobuf.FieldMask"
    _, template = route(rules(rpc)[0])
    assert f"{{{body}." in template


@pytest.mark.parametrize(
    "name", [name for name in FIELDS if re.search(r"_(usd|units|per_usd|multiplier|million)$", name)]
)
def test_money_is_a_decimal_text(name: str) -> None:
    assert FIELDS[name].type == FieldDescriptor.TYPE_STRING


def test_only_parameters_of_models_are_floating_point_numbers() -> None:
    floating = (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT)
    found = {name for name, several in FIELDS_OF.items() for field in several if field.type in floating}
    assert found == {"chat", "chat_completion"}


def test_a_secret_is_told_only_where_it_is_made() -> None:
    told = {name.removeprefix("headgate.v1.") for name, field in FIELDS.items() if field.name == "secret"}
    makers = {"CreateAccount", "CreateKey", "RotateHookSecret", "RotateKey"}
    assert told == {f"{maker}Response.secret" for maker in makers}
    taken = [field for field in FIELDS.values() if field.name == "api_key"]
    assert [behaviors(field) for field in taken] == [{field_behavior_pb2.INPUT_ONLY}]


def described(tmp_path: Path) -> FileDescriptorSet:
    """The contract with its comments."""
    out = tmp_path / "contract.binpb"
    includes = [f"-I{ROOT}", f"-I{files('grpc_tools') / '_proto'}", f"-I{Path(annotations_pb2.__file__).parents[2]}"]
    sources = [f"headgate/v1/{name}.proto" for name in NAMES]
    assert protoc.main(["protoc", *includes, "--include_source_info", f"--descriptor_set_out={out}", *sources]) == 0
    return FileDescriptorSet.FromString(out.read_bytes())


def comments(file: FileDescriptorProto) -> dict[tuple[int, ...], str]:
    """The leading comment of everything in a file, on one line, by its path (descriptor.proto, SourceCodeInfo)."""
    return {
        tuple(location.path): " ".join(location.leading_comments.split()) for location in file.source_code_info.location
    }


def declared(file: FileDescriptorProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Everything that a file declares, by name and path."""
    for at, message in enumerate(file.message_type):
        yield message.name, (4, at)
        yield from ((f"{message.name}.{field.name}", (4, at, 2, index)) for index, field in enumerate(message.field))
    for at, enum in enumerate(file.enum_type):
        yield enum.name, (5, at)
        yield from ((f"{enum.name}.{value.name}", (5, at, 2, index)) for index, value in enumerate(enum.value))
    for at, service in enumerate(file.service):
        yield service.name, (6, at)
        yield from ((f"{service.name}.{rpc.name}", (6, at, 2, index)) for index, rpc in enumerate(service.method))


def test_everything_has_a_comment_that_is_a_sentence(tmp_path: Path) -> None:
    found = described(tmp_path).file
    assert len(found) == len(NAMES)
    mute = []
    for file in found:
        told = comments(file)
        mute += [name for name, path in declared(file) if not told.get(path, "").endswith((".", ".)"))]
    assert mute == []


def test_what_a_comment_says_of_a_field_programs_can_read_too(tmp_path: Path) -> None:
    words = {
        "Output only": field_behavior_pb2.OUTPUT_ONLY,
        "Input only": field_behavior_pb2.INPUT_ONLY,
        "equired": field_behavior_pb2.REQUIRED,
    }
    differ = []
    for file in described(tmp_path).file:
        told = comments(file)
        admin = file.name.removeprefix("headgate/v1/").removesuffix(".proto") in ADMIN_FILES
        for name, path in declared(file):
            field = FIELDS.get(f"headgate.v1.{name}")
            if admin and field is not None:
                said = {behavior for word, behavior in words.items() if word in told[path]}
                differ += [name] if said != behaviors(field) else []
    assert differ == []


@pytest.fixture(params=["socket", "in process"], scope="module")
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_every_service_is_there_and_those_to_come_say_so(way: str) -> None:
    assert set(SERVICES) == set(BY_NAME)
    async with running(Config()) as gateway, aio.insecure_channel(gateway.grpc_address) as socket:
        channel: aio.Channel = socket if way == "socket" else gateway.core.channel
        for name in BY_NAME:
            health = await HealthStub(channel).Check(HealthCheckRequest(service=name))
            assert health.status == HealthCheckResponse.SERVING
        for rpc in ADMIN.values():
            if rpc.containing_service.full_name in NOT_YET:
                with pytest.raises(aio.AioRpcError) as failure:
                    await answer(channel, rpc)
                assert failure.value.code() is StatusCode.UNIMPLEMENTED, rpc.full_name
                assert "accounts" in (failure.value.details() or "")
                assert rpc_status.from_call(failure.value), rpc.full_name


async def answer(channel: aio.Channel, rpc: MethodDescriptor) -> Any:
    """What an RPC answers to an empty request; of a stream the first piece."""
    stem = rpc.containing_service.file.name.removeprefix("headgate/v1/").removesuffix(".proto")
    stubs = import_module(f"headgate.v1.{stem}_pb2_grpc")
    stub = getattr(stubs, f"{rpc.containing_service.name}Stub")(channel)
    call = getattr(stub, rpc.name)(getattr(MODULES[stem], rpc.input_type.name)(), timeout=10)
    return await anext(aiter(call)) if rpc.server_streaming else await call
