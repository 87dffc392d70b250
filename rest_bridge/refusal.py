"""What the bridge would answer, where somebody in front of it refuses a request in its place."""

from google.rpc import status_pb2
from grpc import StatusCode, aio

from rest_bridge.app import Directory, document
from rest_bridge.errors import Failure

CODES = {code.value[0]: code for code in StatusCode}
DETAILS = "grpc-status-details-bin"


class Words:
    """The words of the dialects."""

    def __init__(self, app: Directory) -> None:
        """Takes the bridge's endpoints."""
        self._app = app

    def __call__(
        self, method: str, path: str, status: bytes, *, has_key: bool, origin: str
    ) -> tuple[int, list[tuple[str, str]], str]:
        """HTTP status, header fields and body, as the endpoint at the path has them for a failure of the core's.

        Takes the method, the path without query, a google.rpc.Status, and what the request has of a key and an origin.
        """
        message = status_pb2.Status.FromString(status)
        rich = aio.Metadata((DETAILS, status))
        failure = Failure.of(aio.AioRpcError(CODES[message.code], aio.Metadata(), rich, message.message))
        endpoint = self._app.endpoint(method, path)
        if endpoint is None:
            return failure.http_status, [("content-type", "application/json")], document(failure).decode()
        fields, body = endpoint.refusal(failure, has_key=has_key, origin=origin)
        told = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]
        return failure.http_status, told, body.decode()
