"""What the bridge would answer, where somebody in front of it refuses a request in its place."""

from collections.abc import Mapping

from google.rpc import status_pb2
from grpc import StatusCode, aio

from rest_bridge.app import Directory, document
from rest_bridge.errors import Failure

CODES = {code.value[0]: code for code in StatusCode}
DETAILS = "grpc-status-details-bin"


def refused(
    app: Directory, method: str, path: str, headers: Mapping[str, str], status: status_pb2.Status
) -> tuple[int, list[tuple[str, str]], str]:
    """HTTP status, header fields and body, as the endpoint at the path has them for a failure of the core's.

    Takes the method, the path without query, and the header fields by their names in small letters.
    """
    rich = aio.Metadata((DETAILS, status.SerializeToString()))
    failure = Failure.of(aio.AioRpcError(CODES[status.code], aio.Metadata(), rich, status.message))
    endpoint = app.endpoint(method, path)
    if endpoint is None:
        return failure.http_status, [("content-type", "application/json")], document(failure).decode()
    given = {name.encode("latin-1", "replace"): value.encode("latin-1", "replace") for name, value in headers.items()}
    fields, body = endpoint.refusal(failure, given)
    return (
        failure.http_status,
        [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields],
        body.decode(),
    )
