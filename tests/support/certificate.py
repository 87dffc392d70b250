"""A fresh self-signed certificate for 127.0.0.1 and localhost, made of arithmetic: no key lies in the repository.

ECDSA on P-256 (FIPS 186-4, D.1.2.3), X.509 v3 (RFC 5280), the key as in RFC 5915.
"""

import hashlib
import secrets
import ssl
from base64 import encodebytes
from datetime import UTC, datetime, timedelta
from pathlib import Path

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
Point = tuple[int, int] | None

ECDSA_WITH_SHA256 = bytes.fromhex("06082a8648ce3d040302")
EC_PUBLIC_KEY = bytes.fromhex("06072a8648ce3d0201")
PRIME256V1 = bytes.fromhex("06082a8648ce3d030107")
COMMON_NAME = bytes.fromhex("0603550403")


def self_signed(directory: Path) -> tuple[Path, Path]:
    """Writes a certificate and its key into the directory, as PEM files."""
    key = secrets.randbelow(N - 1) + 1
    point = _times(key, G)
    assert point is not None
    public = b"\x04" + point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big")
    certificate = directory / "certificate.pem"
    certificate.write_text(_pem("CERTIFICATE", _certificate(key, public)))
    private = directory / "key.pem"
    fields = _integer(1) + _der(0x04, key.to_bytes(32, "big")) + _der(0xA0, PRIME256V1)
    private.write_text(_pem("EC PRIVATE KEY", _der(0x30, fields)))
    return certificate, private


def server_context(directory: Path) -> ssl.SSLContext:
    """A server's TLS context with such a certificate; the certificate is certificate.pem in the directory."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*self_signed(directory))
    return context


def _certificate(key: int, public: bytes) -> bytes:
    now = datetime.now(UTC)
    name = _der(0x30, _der(0x31, _der(0x30, COMMON_NAME + _der(0x0C, b"localhost"))))
    fields = [
        _der(0xA0, _integer(2)),
        _integer(secrets.randbits(64)),
        _der(0x30, ECDSA_WITH_SHA256),
        name,
        _der(0x30, _time(now - timedelta(days=1)) + _time(now + timedelta(days=1))),
        name,
        _der(0x30, _der(0x30, EC_PUBLIC_KEY + PRIME256V1) + _der(0x03, b"\x00" + public)),
        _der(0xA3, _der(0x30, _extensions(public))),
    ]
    unsigned = _der(0x30, b"".join(fields))
    return _der(0x30, unsigned + _der(0x30, ECDSA_WITH_SHA256) + _der(0x03, b"\x00" + _signature(key, unsigned)))


def _extensions(public: bytes) -> bytes:
    names = _der(0x82, b"localhost") + _der(0x87, bytes([127, 0, 0, 1]))
    critical = b"\x01\x01\xff"
    values = [
        ("0603551d13", critical, _der(0x30, critical)),  # a certificate authority: it is its own
        ("0603551d0f", critical, b"\x03\x02\x02\x84"),  # signs certificates and handshakes
        ("0603551d0e", b"", _der(0x04, hashlib.sha1(public, usedforsecurity=False).digest())),
        ("0603551d11", b"", _der(0x30, names)),
    ]
    return b"".join(_der(0x30, bytes.fromhex(oid) + flag + _der(0x04, value)) for oid, flag, value in values)


def _signature(key: int, message: bytes) -> bytes:
    digest = int.from_bytes(hashlib.sha256(message).digest(), "big")
    nonce = secrets.randbelow(N - 1) + 1
    point = _times(nonce, G)
    assert point is not None
    r = point[0] % N
    return _der(0x30, _integer(r) + _integer(pow(nonce, -1, N) * (digest + r * key) % N))


def _times(factor: int, point: Point) -> Point:
    total: Point = None
    while factor:
        if factor & 1:
            total = _sum(total, point)
        point = _sum(point, point)
        factor >>= 1
    return total


def _sum(a: Point, b: Point) -> Point:
    if a is None or b is None:
        return b if a is None else a
    if a[0] == b[0] and a[1] != b[1]:
        return None
    slope = (3 * a[0] ** 2 - 3) * pow(2 * a[1], -1, P) if a == b else (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope**2 - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _integer(value: int) -> bytes:
    return _der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _time(value: datetime) -> bytes:
    return _der(0x17, value.strftime("%y%m%d%H%M%SZ").encode())


def _pem(kind: str, content: bytes) -> str:
    return f"-----BEGIN {kind}-----\n{encodebytes(content).decode()}-----END {kind}-----\n"
