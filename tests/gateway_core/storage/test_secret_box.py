import hmac
import os
import stat
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway_core.storage.database import Database
from gateway_core.storage.errors import SecretKeyInvalid, SecretUnreadable
from gateway_core.storage.secret_box import SecretBox, secret_box
from gateway_core.storage.setting import prove

KEY = "correct horse battery staple, twice over"
PLACE = "accounts.hook_secret:1"


def test_what_is_sealed_is_opened() -> None:
    box = SecretBox(KEY, "test")
    for text in ("", "sk-secret", "ä\u2028" * 10_000):
        sealed = box.seal(text, PLACE)
        assert SecretBox(KEY, "test").open(sealed, PLACE) == text
        assert len(sealed) == 1 + 12 + len(text.encode()) + 16
        assert sealed[0] == 1


def test_the_same_text_is_sealed_differently_each_time() -> None:
    box = SecretBox(KEY, "test")
    assert len({box.seal("secret", PLACE) for _ in range(100)}) == 100


def test_the_key_is_stretched_as_the_specification_says() -> None:
    # RFC 5869 by hand: extract with 32 zero bytes of salt, expand once.
    extracted = hmac.digest(bytes(32), KEY.encode(), "sha256")
    derived = hmac.digest(extracted, b"headgate secret box 1\x01", "sha256")
    sealed = SecretBox(KEY, "test").seal("secret", PLACE)
    assert AESGCM(derived).decrypt(sealed[1:13], sealed[13:], b"\x01" + PLACE.encode()) == b"secret"


def test_another_key_cannot_open_it() -> None:
    sealed = SecretBox(KEY, "test").seal("secret", PLACE)
    with pytest.raises(
        SecretUnreadable, match=r"accounts\.hook_secret cannot be read with the key of HEADGATE_SECRET_KEY"
    ):
        SecretBox(KEY + "!", "HEADGATE_SECRET_KEY").open(sealed, PLACE)


def test_a_secret_is_of_no_use_elsewhere() -> None:
    box = SecretBox(KEY, "test")
    with pytest.raises(SecretUnreadable):
        box.open(box.seal("secret", PLACE), "accounts.hook_secret:2")


def test_a_changed_secret_is_found_out() -> None:
    box = SecretBox(KEY, "test")
    sealed = box.seal("secret", PLACE)
    for index in range(len(sealed)):
        changed = bytearray(sealed)
        changed[index] ^= 1
        with pytest.raises(SecretUnreadable):
            box.open(bytes(changed), PLACE)
    for length in range(len(sealed)):
        with pytest.raises(SecretUnreadable):
            box.open(sealed[:length], PLACE)


def test_nothing_of_the_key_is_printed() -> None:
    box = SecretBox(KEY, "test")
    assert repr(box) == str(box) == "SecretBox(source='test')"
    with pytest.raises(SecretKeyInvalid) as failure:
        SecretBox("hush-hush", "HEADGATE_SECRET_KEY")
    assert str(failure.value) == "HEADGATE_SECRET_KEY: a secret key has at least 32 characters"


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    box = secret_box({"HEADGATE_SECRET_KEY": KEY}, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert SecretBox(KEY, "test").open(box.seal("secret", PLACE), PLACE) == "secret"


def test_a_file_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "data"
    sealed = secret_box({"HEADGATE_SECRET_KEY": ""}, directory).seal("secret", PLACE)
    assert secret_box({}, directory).open(sealed, PLACE) == "secret"
    (file,) = directory.iterdir()
    assert file.name == "secret.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_text().strip()) >= 32


def test_processes_that_start_at_once_have_one_key(tmp_path: Path) -> None:
    boxes: list[SecretBox] = []
    barrier = threading.Barrier(8)

    def make() -> None:
        barrier.wait()
        boxes.append(secret_box({}, tmp_path))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sealed = boxes[0].seal("secret", PLACE)
    assert [box.open(sealed, PLACE) for box in boxes] == ["secret"] * 8
    assert [file.name for file in tmp_path.iterdir()] == ["secret.key"]


def test_a_key_that_another_process_just_made_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = secret_box({}, tmp_path).seal("secret", PLACE)
    monkeypatch.setattr(Path, "exists", lambda _: False)
    assert secret_box({}, tmp_path).open(sealed, PLACE) == "secret"
    assert [file.name for file in tmp_path.iterdir()] == ["secret.key"]


@pytest.mark.skipif(os.name != "posix", reason="rights of files are POSIX's")
def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    secret_box({}, tmp_path)
    (tmp_path / "secret.key").chmod(0o640)
    with pytest.raises(SecretKeyInvalid, match="others may read or write it; say: chmod 600"):
        secret_box({}, tmp_path)


@pytest.mark.parametrize(("content", "problem"), [(b"", "at least 32 characters"), (b"\xff" * 40, "is not text")])
def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "secret.key").write_bytes(content)
    (tmp_path / "secret.key").chmod(0o600)
    with pytest.raises(SecretKeyInvalid, match=f"secret.key: .*{problem}"):
        secret_box({}, tmp_path)


def test_a_place_where_no_file_can_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SecretKeyInvalid, match=r"secret\.key: Not a directory"):
        secret_box({}, tmp_path / "file" / "data")


async def test_a_database_knows_the_key_that_it_was_begun_with(database: Database) -> None:
    await prove(database, SecretBox(KEY, "first"))
    await prove(database, SecretBox(KEY, "again"))
    with pytest.raises(SecretKeyInvalid, match="sealed with another key than that of HEADGATE_SECRET_KEY"):
        await prove(database, SecretBox(KEY + "!", "HEADGATE_SECRET_KEY"))
