"""The files of a listener are checked before it serves, and taken again when they are renewed."""

import os
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from gateway_core.config_tls import ListenerTlsConfig
from gateway_core.tls_files import LOOK_SECONDS, Material, TlsFault, TlsFiles, material
from tests.support.authority import DAY, Authority, Issued


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def row(issued: Issued, authorities: Path | None = None) -> ListenerTlsConfig:
    return ListenerTlsConfig(
        certificate=issued.certificate, private_key=issued.private_key, client_authorities=authorities
    )


def problems(config: ListenerTlsConfig) -> list[str]:
    with pytest.raises(TlsFault) as raised:
        material("tls.grpc", config)
    assert str(raised.value) == "; ".join(raised.value.problems)
    return raised.value.problems


def test_what_is_right_is_told_without_the_key(authority: Authority) -> None:
    issued = authority.issue("server")
    found = material("tls.grpc", row(issued, authority.file))
    assert found.certificate == issued.certificate.read_bytes()
    assert found.authorities == authority.file.read_bytes()
    assert "PRIVATE" not in repr(found)
    assert material("tls.grpc", row(issued)).authorities is None


def test_all_that_cannot_be_read_is_told_with_its_key(authority: Authority, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    config = ListenerTlsConfig(certificate=missing, private_key=tmp_path, client_authorities=missing)
    assert problems(config) == [
        f"tls.grpc.certificate: {missing}: cannot be read: No such file or directory",
        f"tls.grpc.private_key: {tmp_path}: cannot be read: Is a directory",
        f"tls.grpc.client_authorities: {missing}: cannot be read: No such file or directory",
    ]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_the_right_to_read_is_told(authority: Authority) -> None:
    issued = authority.issue("server")
    issued.private_key.chmod(0)
    assert problems(row(issued)) == [f"tls.grpc.private_key: {issued.private_key}: cannot be read: Permission denied"]


def test_the_key_of_another_certificate_is_refused(authority: Authority) -> None:
    issued, other = authority.issue("server"), authority.issue("other")
    assert problems(row(Issued(issued.certificate, other.private_key))) == [
        f"tls.grpc.private_key: {other.private_key}: is not the key of {issued.certificate}"
    ]


@pytest.mark.parametrize(
    ("valid", "what"), [((-2 * DAY, -DAY), "expired on 20"), ((DAY, 2 * DAY), "is not valid before 20")]
)
def test_a_certificate_out_of_its_time_is_refused(
    authority: Authority, valid: tuple[timedelta, timedelta], what: str
) -> None:
    issued = authority.issue("server", valid=valid)
    (problem,) = problems(row(issued))
    assert problem.startswith(f"tls.grpc.certificate: {issued.certificate}: {what}")


def test_files_that_hold_something_else_are_refused_and_not_shown(authority: Authority, tmp_path: Path) -> None:
    issued = authority.issue("server")
    (tmp_path / "empty.pem").write_text("SECRET")
    empty = Issued(tmp_path / "empty.pem", tmp_path / "empty.pem")
    assert problems(row(empty, empty.certificate)) == [
        f"tls.grpc.certificate: {empty.certificate}: has no certificate in PEM",
        f"tls.grpc.private_key: {empty.certificate}: has no private key in PEM",
        f"tls.grpc.client_authorities: {empty.certificate}: has no certificate in PEM",
    ]
    swapped = Issued(issued.certificate, issued.certificate)
    assert problems(row(swapped)) == [f"tls.grpc.private_key: {issued.certificate}: has no private key in PEM"]


def test_an_encrypted_key_is_refused(authority: Authority) -> None:
    issued = authority.issue("server")
    key = serialization.load_pem_private_key(issued.private_key.read_bytes(), None)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    issued.private_key.write_bytes(key.private_bytes(*form, serialization.BestAvailableEncryption(b"word")))
    (problem,) = problems(row(issued))
    assert problem == f"tls.grpc.private_key: {issued.private_key}: is encrypted: write it down without a password"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def renew(issued: Issued, other: Issued) -> None:
    shutil.copyfile(other.certificate, issued.certificate)
    shutil.copyfile(other.private_key, issued.private_key)


def looked(files: TlsFiles, clock: Clock) -> Material:
    clock.now += LOOK_SECONDS
    return files.current()


def test_renewed_files_are_taken_and_halves_are_not(authority: Authority) -> None:
    issued, other = authority.issue("server"), authority.issue("other")
    clock = Clock()
    files = TlsFiles("tls.http", row(issued, authority.file), clock)
    assert files.asks_clients
    first = files.current()
    assert looked(files, clock) is first
    shutil.copyfile(other.certificate, issued.certificate)
    assert looked(files, clock) is first, "the key is still that of the one before"
    shutil.copyfile(other.private_key, issued.private_key)
    assert files.current() is first, "not yet looked at again"
    second = looked(files, clock)
    assert second.certificate == other.certificate.read_bytes()
    assert looked(files, clock) is second


def test_the_old_go_on_where_files_are_gone_or_late(authority: Authority) -> None:
    issued = authority.issue("server")
    late, other = authority.issue("late", valid=(-2 * DAY, -DAY)), authority.issue("other")
    clock = Clock()
    files = TlsFiles("tls.http", row(issued), clock)
    first = files.current()
    issued.certificate.unlink()
    assert looked(files, clock) is first
    renew(issued, late)
    assert looked(files, clock) is first
    renew(issued, other)
    assert looked(files, clock).certificate == other.certificate.read_bytes()


def test_a_directory_that_a_link_replaces_is_seen(authority: Authority, tmp_path: Path) -> None:
    """As Kubernetes renews a mounted secret."""
    issued, other = authority.issue("server"), authority.issue("other")
    for name, each in (("one", issued), ("two", other)):
        (tmp_path / name).mkdir()
        shutil.copyfile(each.certificate, tmp_path / name / "tls.crt")
        shutil.copyfile(each.private_key, tmp_path / name / "tls.key")
    link = tmp_path / "data"
    link.symlink_to("one")
    clock = Clock()
    files = TlsFiles("tls.http", row(Issued(link / "tls.crt", link / "tls.key")), clock)
    assert files.current().certificate == issued.certificate.read_bytes()
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(link)
    assert looked(files, clock).certificate == other.certificate.read_bytes()
