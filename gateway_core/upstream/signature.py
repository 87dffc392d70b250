"""Signs requests to AWS: Signature Version 4, as its services but S3 want it.

Source: AWS's "Create a signed AWS API request",
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote

ALGORITHM = "AWS4-HMAC-SHA256"

UNRESERVED = "-._~"
"""What is never encoded, beside letters and digits."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key of AWS's."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    """Of credentials that last for a time."""


class Signer:
    """Signs requests to one service in one region."""

    def __init__(self, credentials: Credentials, region: str, service: str) -> None:
        """Takes whose requests they are, and where they go: "us-east-1", "bedrock"."""
        self._credentials = credentials
        self._region = region
        self._service = service
        self._day = ""
        self._key = b""

    def headers(self, method: str, path: str, headers: Mapping[str, str], body: bytes, at: float) -> dict[str, str]:
        """The headers that a request needs beside those given, all of which are signed.

        Takes the path as it is sent, percent-encoded, without a query; names of headers in lower case, `host` among
        them; and the time, in seconds since 1970-01-01 UTC, which may be off by five minutes.
        """
        time = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")
        added = {"x-amz-date": time}
        if self._credentials.session_token is not None:
            added["x-amz-security-token"] = self._credentials.session_token
        signed = {**headers, **added}
        names = ";".join(sorted(signed))
        request = canonical_request(method, path, signed, body)
        scope = f"{time[:8]}/{self._region}/{self._service}/aws4_request"
        text = f"{ALGORITHM}\n{time}\n{scope}\n{sha256(request.encode())}"
        signature = hmac.new(self._signing_key(time[:8]), text.encode(), hashlib.sha256).hexdigest()
        credential = f"{self._credentials.access_key_id}/{scope}"
        added["authorization"] = f"{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
        return added

    def _signing_key(self, day: str) -> bytes:
        if day != self._day:
            key = f"AWS4{self._credentials.secret_access_key}".encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.new(key, part.encode(), hashlib.sha256).digest()
            self._day, self._key = day, key
        return self._key


def canonical_request(method: str, path: str, headers: Mapping[str, str], body: bytes) -> str:
    """A request in the form that is signed. The path is encoded again: "%3A" in it becomes "%253A"."""
    fields = "".join(f"{name}:{re.sub(' +', ' ', headers[name].strip())}\n" for name in sorted(headers))
    return "\n".join((method, quote(path, safe=f"/{UNRESERVED}"), "", fields, ";".join(sorted(headers)), sha256(body)))


def sha256(data: bytes) -> str:
    """A hash, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
