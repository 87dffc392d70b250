"""What `headgate serve` says of where it keeps things."""

from pathlib import Path

from pydantic import SecretStr

from gateway_core.config import Config
from gateway_core.server import Core
from gateway_core.storage.store import Store
from tests.headgate_cli.program import serving


async def test_the_start_tells_the_file_of_the_database(tmp_path: Path) -> None:
    async with serving("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", home=tmp_path) as program:
        assert f"  data                 {tmp_path / 'data' / 'headgate.db'}" in program.lines


async def test_a_server_is_told_without_its_password_and_with_the_directory_beside_it(tmp_path: Path) -> None:
    url = SecretStr("postgresql://me:hush@db.example/headgate")
    core = Core(Config(database_url=url), Store.at(url, tmp_path, {}))
    assert core.kept_in == f"postgresql://db.example/headgate; {tmp_path}"
    assert Core(Config(storage=False)).kept_in == "nowhere (storage: false)"
    await core.close()
