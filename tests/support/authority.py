"""A certificate authority of a test's own: certificates with SPIFFE ids, common names and times of its choosing."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key, as PEM files."""

    certificate: Path
    private_key: Path

    @property
    def pair(self) -> tuple[str, str]:
        """As httpx and ssl take them."""
        return str(self.certificate), str(self.private_key)


class Authority:
    """Its own certificate is `file`."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        """Makes the key and the certificate; takes where files go, and what it is called."""
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        made = (
            builder(self._name, self._name, self._key, (now - DAY, now + DAY))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.file = directory / f"{name}.pem"
        self.file.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        file: str,
        *,
        uris: tuple[str, ...] = (),
        common_name: str | tuple[str, ...] = (),
        dns: tuple[str, ...] = ("localhost",),
        valid: tuple[timedelta, timedelta] = (-DAY, DAY),
    ) -> Issued:
        """A certificate for this machine; takes the name of its files, and from when until when it is valid."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = (common_name,) if isinstance(common_name, str) else common_name
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])
        now = datetime.now(UTC)
        alternatives: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
        alternatives += [x509.DNSName(name) for name in dns]
        alternatives.append(x509.IPAddress(IPv4Address("127.0.0.1")))
        made = (
            builder(subject, self._name, key, (now + valid[0], now + valid[1]))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=not names)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        issued = Issued(self._directory / f"{file}.pem", self._directory / f"{file}.key")
        issued.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        issued.private_key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        issued.private_key.chmod(0o600)
        return issued


def builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, valid: tuple[datetime, datetime]
) -> x509.CertificateBuilder:
    """What all certificates have."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
    )


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """What a key may be used for."""
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
