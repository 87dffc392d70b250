"""The description of the REST API: an OpenAPI 3.1 document, written from the descriptors of the contract."""

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from rest_bridge.dialects.admin.behavior import is_required
from rest_bridge.dialects.admin.binding import MASK, VARIABLE, Binding, bindings
from rest_bridge.dialects.admin.bound import bounds
from rest_bridge.dialects.admin.comments import comments
from rest_bridge.dialects.admin.completion_paths import completion_paths, completion_schemas
from rest_bridge.dialects.admin.descriptor import enum_of, field_at, message_of
from rest_bridge.dialects.admin.response import TOKEN, page_field
from rest_bridge.dialects.admin.schema import CHANGED, GIVEN, TOLD, Schema, Schemas, enum_schema
from rest_bridge.dialects.admin.status import ADMIN_ERROR, error_responses, response_references
from rest_bridge.dialects.admin.value import WELL_KNOWN

TITLE = "Headgate"
VERSION = "1"
"""Of the API, which its paths name too."""
INTRODUCTION = (
    "The administrative API, and the OpenAI-compatible paths beside it. Names are in snake_case, times as in RFC 3339, "
    "money in US dollars as decimal strings. An integer beyond 2^53 is a string. The values of enumerations are "
    "written in lower case; their full names in the contract (KEY_KIND_PRIVATE) are taken too. In a PATCH, what the "
    "body names is changed and null clears it, unless update_mask says what is changed."
)
SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "Authorization: Bearer sk-hg-…"},
    "basic": {"type": "http", "scheme": "basic", "description": "The key is the password; any user name is taken."},
    "x_api_key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "api_key": {"type": "apiKey", "in": "header", "name": "api-key"},
    "query_key": {"type": "apiKey", "in": "query", "name": "api-key"},
}


def document() -> dict[str, Any]:
    """The whole document."""
    schemas = Schemas()
    schemas.by_name["Error"] = ADMIN_ERROR
    schemas.by_name.update(completion_schemas())
    paths: dict[str, dict[str, Any]] = {}
    tags: dict[str, str] = {"Chat completions": "OpenAI's API, in OpenAI's shapes."}
    paths.update(completion_paths())
    for binding in bindings():
        service = binding.method.containing_service
        tags[tag(binding)] = comments().get(service.full_name, "")
        paths.setdefault(shown_path(binding), {})[binding.verb.lower()] = operation(binding, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": VERSION, "description": INTRODUCTION},
        "tags": [{"name": name, "description": text} for name, text in tags.items()],
        "security": [{name: []} for name in SECURITY_SCHEMES] + [{}],
        "paths": paths,
        "components": {
            "securitySchemes": SECURITY_SCHEMES,
            "schemas": dict(sorted(schemas.by_name.items())),
            "responses": error_responses(),
        },
    }


def shown_path(binding: Binding) -> str:
    """The path with the last part of each variable's name: "/api/v1/keys/{id}"."""
    return VARIABLE.sub(lambda found: f"{{{found[1].rpartition('.')[2]}}}", binding.template)


def tag(binding: Binding) -> str:
    """The group of an operation: "Account"."""
    return str(binding.method.containing_service.name).removesuffix("Service")


def operation(binding: Binding, schemas: Schemas) -> dict[str, Any]:
    """One operation."""
    method = binding.method
    comment = comments().get(method.full_name, "")
    described: dict[str, Any] = {
        "operationId": f"{method.name}ByAlias" if binding.is_alias else method.name,
        "tags": [tag(binding)],
        "summary": comment.partition(". ")[0].removesuffix("."),
        "description": comment,
        "parameters": [*path_parameters(binding), *query_parameters(binding)],
    }
    if binding.body:
        described["requestBody"] = {
            "required": binding.body != "*" or any(map(is_required, body_fields(binding))),
            "content": {"application/json": {"schema": body_schema(binding, schemas)}},
        }
    described["responses"] = {"200": success(binding, schemas), **response_references(binding.verb)}
    return described


def path_parameters(binding: Binding) -> list[dict[str, Any]]:
    """What the path gives."""
    fields = [field_at(binding.method.input_type, name) for name in binding.variables]
    return [
        {
            "name": field.name,
            "in": "path",
            "required": True,
            "description": comments().get(field.full_name, ""),
            "schema": {"type": "string", "minLength": 1},
        }
        for field in fields
    ]


def query_parameters(binding: Binding) -> list[dict[str, Any]]:
    """What the query gives: the request's fields that neither path nor body gives."""
    if binding.body == "*":
        return []
    taken = {binding.body, *(name.partition(".")[0] for name in binding.variables)}
    return [
        {
            "name": name,
            "in": "query",
            "required": is_required(field),
            "description": comments().get(field.full_name, ""),
            "schema": query_schema(field),
        }
        for name, field in query_fields(binding.method.input_type, taken)
    ]


def query_fields(message: Descriptor, taken: set[str]) -> list[tuple[str, FieldDescriptor]]:
    """Fields by their dotted names."""
    found = []
    for field in message.fields:
        if field.name in taken:
            continue
        plain = field.message_type is None or field.name == MASK or field.message_type.full_name in WELL_KNOWN
        if plain:
            found.append((field.name, field))
        elif not field.is_repeated:
            found.extend((f"{field.name}.{name}", inner) for name, inner in query_fields(message_of(field), set()))
    return found


def query_schema(field: FieldDescriptor) -> Schema:
    """The schema of a parameter; several values of a repeated one are given one by one."""
    if field.type == FieldDescriptor.TYPE_INT64:
        return {"type": "integer", "format": "int64", **bounds(field)}
    if field.type == FieldDescriptor.TYPE_ENUM:
        return enum_schema(enum_of(field), GIVEN)
    return {**Schemas().value(field, TOLD), **bounds(field)}


def body_fields(binding: Binding) -> list[FieldDescriptor]:
    """The fields of a body that is the request itself."""
    return [field for field in binding.method.input_type.fields if field.name not in binding.variables]


def body_schema(binding: Binding, schemas: Schemas) -> Schema:
    """The schema of the body."""
    if binding.body_field is not None:
        return schemas.reference(message_of(binding.body_field), CHANGED if binding.resource else GIVEN)
    return schemas.object(binding.method.input_type, GIVEN, frozenset(binding.variables))


def success(binding: Binding, schemas: Schemas) -> dict[str, Any]:
    """The answer to a call that did not fail."""
    response = binding.method.output_type
    if binding.method.server_streaming:
        content: dict[str, Any] = {"text/csv": {"schema": {"type": "string"}}}
        return {"description": comments().get(response.full_name, ""), "content": content}
    properties: Schema = {"message": {"type": "string", "description": "What was done, in words."}}
    field = page_field(response)
    if binding.response_body:
        properties["data"] = schemas.value(response.fields_by_name[binding.response_body], TOLD)
    elif field is not None:
        properties["data"] = schemas.value(field, TOLD)
    else:
        properties["data"] = schemas.object(response, TOLD, frozenset({TOKEN}))
    if TOKEN in response.fields_by_name:
        properties[TOKEN] = schemas.property(response.fields_by_name[TOKEN], TOLD)
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "description": comments().get(response.full_name, ""),
        "content": {"application/json": {"schema": schema}},
    }
