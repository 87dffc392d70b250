"""What the core blames, as REST writes it: by its path in the body that was sent, and with the short names of values.

The core names it by its path in the RPC's request, and values by their full names.
"""

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from grpc_status import rpc_status

from rest_bridge.dialects.admin.enum import in_words

DETAILS = "grpc-status-details-bin"
PARAM = "param"


def in_body(error: aio.AioRpcError, field: str) -> aio.AioRpcError:
    """A failure as REST tells it; `field` is the request's field that the body is."""
    try:
        status: status_pb2.Status | None = rpc_status.from_call(error)
    except (ValueError, DecodeError):
        status = None
    if status is None:
        return error
    status.message = in_words(status.message)
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info) and info.metadata[PARAM].startswith(f"{field}."):
            path = info.metadata[PARAM]
            info.metadata[PARAM] = path.removeprefix(f"{field}.")
            detail.Pack(info)
            status.message = status.message.replace(path, info.metadata[PARAM], 1)
            break
    return with_status(error, status)


def with_status(error: aio.AioRpcError, status: status_pb2.Status) -> aio.AioRpcError:
    """A failure with other details."""
    others = [(key, value) for key, value in error.trailing_metadata() or () if key != DETAILS]
    trailing = aio.Metadata(*others, (DETAILS, status.SerializeToString()))
    return aio.AioRpcError(error.code(), error.initial_metadata(), trailing, status.message, error.debug_error_string())
