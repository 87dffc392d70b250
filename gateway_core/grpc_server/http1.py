"""The one answer to clients that speak HTTP/1 to this server: where they are, in words that they show."""

from gateway_core.grpc_server.frames import PROTOCOL_ERROR, ConnectionFault

WORDS = b"This is the gRPC listener (HTTP/2); the REST API is on the other port.\n"
ANSWER = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ", b"OPTIONS ", b"CONNECT ", b"TRACE ")


class SpokeHttp1(ConnectionFault):
    """The client has begun with a request of HTTP/1."""

    def __init__(self, begun: bytes) -> None:
        """Takes what has come of it."""
        super().__init__(PROTOCOL_ERROR, "This port speaks HTTP/2 (gRPC), without an upgrade from HTTP/1.")
        self.answer = ANSWER % len(WORDS) + (b"" if begun.startswith(b"HEAD") else WORDS)


def is_http1(begun: bytes) -> bool:
    """Whether the first octets of a connection, which are not those of HTTP/2, begin a request of HTTP/1."""
    return begun.startswith(METHODS)


def may_be_http1(begun: bytes) -> bool:
    """Whether they may do so once there are more."""
    return any(method.startswith(begun) for method in METHODS)
