"""What an Envoy in front tells of a request before it passes it on: whether it needs a key, and which one it has."""

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

GRPC = "/headgate.v1."
CERTIFICATE = "x-forwarded-client-cert"
NEEDS_KEY = re.compile(r"/(?:headgate\.v1\.[A-Za-z]+|v1|api)/")
"""How the paths begin where nothing is answered without a key, but for those below."""
PUBLIC = frozenset(
    f"{prefix}{path}" for prefix in ("", "/api/v1/ollama") for path in ("", "/", "/api/version", "/api/ps")
)
MODEL_CALL = re.compile(
    r"/headgate\.v1\.ChatCompletionService/(?:Create|Stream)ChatCompletion"
    r"|(?:/v1|/api/v1|/api/v1/open-ai)/chat[/-]completions"
    r"|(?:/api/v1/anthropic)?/v1/messages"
    r"|(?:/api/v1/ollama)?/api/(?:chat|generate)"
)
"""The paths of calls that count towards the limits of accounts and of public keys."""
SECRET = re.compile(r"[sp]k-hg-")


def needs_key(method: str, path: str) -> bool:
    """Whether a request is answered to nobody without a key. Browsers ask without one whether a page may call."""
    return method != "OPTIONS" and NEEDS_KEY.match(path) is not None and path not in PUBLIC


def is_model_call(path: str) -> bool:
    """Whether limits in time hold for it."""
    return MODEL_CALL.fullmatch(path) is not None


def is_grpc(path: str) -> bool:
    """Whether it is a call of the contract, and no REST."""
    return path.startswith(GRPC)


def authorization_of(headers: Mapping[str, str], path: str, query: str) -> str | None:
    """The value of `authorization` that the core gets of it: over REST a key may be elsewhere. None: there is no key.

    Takes header fields by their names in small letters; of several with one name the values, joined by commas.
    """
    given = headers.get("authorization")
    if given is not None:
        return given.rpartition(",")[2].strip()  # the last one counts, and no key has a comma
    if is_grpc(path):
        return None
    secret = headers.get("x-api-key") or headers.get("api-key") or in_query(query)
    return f"Bearer {secret}" if secret else None


def in_query(query: str) -> str:
    """The last `api-key=`; empty where there is none."""
    if "api-key=" not in query:
        return ""
    given = [value for name, value in parse_qsl(query) if name == "api-key"]
    return given[-1] if given else ""


def bearer(value: str) -> str:
    """A value of `authorization` for what may be one, or be nothing but a key."""
    return f"Bearer {value}" if SECRET.match(value) else value
