"""What the fields of accounts and keys may hold, as requests give them, and how they are told."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from google.protobuf.duration_pb2 import Duration

from gateway_core.errors import InvalidRequest, ModelNotAllowed
from gateway_core.storage.identifier import now_us

PICO = 10**12
LARGEST = 2**63 - 1
PAGE_AT_MOST = 1000
MODELS_AT_MOST = 1000


def text(value: str, path: str, longest: int, *, required: bool = False) -> str | None:
    """A text; None where it is empty. Raises InvalidRequest."""
    if (required and not value.strip()) or len(value) > longest or not value.isprintable():
        raise InvalidRequest(f"{path} must have {int(required)} to {longest} printable characters.", param=path)
    return value or None


def models(values: Sequence[str], path: str) -> list[str] | None:
    """Names of models; None where all are allowed. Raises InvalidRequest."""
    if len(values) > MODELS_AT_MOST:
        raise InvalidRequest(f"{path} must have at most {MODELS_AT_MOST} names.", param=path)
    for index, value in enumerate(values):
        text(value, f"{path}[{index}]", 256, required=True)
    return list(dict.fromkeys(values)) or None


def check_within(values: Sequence[str] | None, allowed: Iterable[str] | None) -> None:
    """Raises ModelNotAllowed where a list allows what its maker may not ask. None: everything."""
    if allowed is None:
        return
    if values is None:
        raise ModelNotAllowed(
            "A key with allowed_models cannot allow all models: name some of its own.", param="allowed_models"
        )
    beyond = sorted(set(values) - set(allowed))
    if beyond:
        raise ModelNotAllowed(
            f"The key may not ask {beyond[0]!r}, and so cannot allow it.", param="allowed_models", model=beyond[0]
        )


def names_and_values(values: Mapping[str, str], path: str) -> dict[str, str] | None:
    """The owner's metadata; None where there are none. Raises InvalidRequest."""
    if len(values) > 16:
        raise InvalidRequest(f"{path} must have at most 16 names.", param=path)
    for name, value in values.items():
        text(name, f"{path} names", 64, required=True)
        if len(value) > 512 or "\0" in value:
            raise InvalidRequest(f"{path}.{name} must have at most 512 characters.", param=f"{path}.{name}")
    return dict(values) or None


def pico_usd(value: str, path: str) -> int:
    """US dollars, as a decimal number, in units of 10^-12. Raises InvalidRequest."""
    try:
        amount = Decimal(value) if value.isascii() and len(value) <= 40 else Decimal("NaN")
    except InvalidOperation:
        amount = Decimal("NaN")
    if amount.is_finite() and amount < 0:
        raise InvalidRequest(f"{path} must not be negative.", param=path)
    if amount.is_finite() and amount > LARGEST // PICO:
        raise InvalidRequest(f"{path} must be at most {LARGEST // PICO} US dollars.", param=path)
    if not amount.is_finite() or "e" in value.lower():
        raise InvalidRequest(f'{path} must be US dollars as a decimal number, such as "25.50".', param=path)
    pico = amount * PICO
    if pico != int(pico):
        raise InvalidRequest(f"{path} must have at most 12 decimal places.", param=path)
    return int(pico)


def usd(pico: int) -> str:
    """Units of 10^-12 US dollars as a decimal number in dollars."""
    whole, rest = divmod(pico, PICO)
    return f"{whole}.{rest:012d}".rstrip("0").rstrip(".")


def expiry_us(expires_in: Duration, path: str) -> int | None:
    """When what works so long from now on ends; None: never. Raises InvalidRequest for zero."""
    microseconds = expires_in.seconds * 1_000_000 + expires_in.nanos // 1000
    if expires_in.seconds == 0 and expires_in.nanos == 0:
        raise InvalidRequest(f"{path} must not be zero; negative means for ever.", param=path)
    return None if microseconds < 0 else min(now_us() + microseconds, LARGEST)


def changed_paths(message: Any, mask: Any | None, changeable: frozenset[str], name: str) -> list[str]:
    """The fields that an update changes: those of the mask, or those that are set. Raises InvalidRequest."""
    if mask is None:
        return [field.name for field, _ in message.ListFields() if field.name in changeable]
    for path in mask.paths:
        if path not in changeable:
            param = f"update_mask.{path[:200]}"
            raise InvalidRequest(f"update_mask: {path[:200]} of {name} cannot be changed.", param=param)
    return list(dict.fromkeys(mask.paths))


def page(page_size: int, page_token: str) -> int:
    """How many are asked for. Raises InvalidRequest."""
    if not 0 <= page_size <= PAGE_AT_MOST:
        raise InvalidRequest(f"page_size must be 1 to {PAGE_AT_MOST}.", param="page_size")
    if page_token and (len(page_token) != 36 or not page_token.isascii() or not page_token.isprintable()):
        raise InvalidRequest("page_token is none that was given.", param="page_token")
    return page_size or 100
