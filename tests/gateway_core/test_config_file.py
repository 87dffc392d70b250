from pathlib import Path

import pytest

from gateway_core.config_file import ConfigError, load, load_part, parse

EXAMPLE = """\
listen: {http: 127.0.0.1:8080, grpc: 127.0.0.1:50051}
providers:
  lab: {kind: openai, base_url: http://127.0.0.1:9000/v1, api_key: ${LAB_KEY}}
models:
  small: {targets: [{provider: lab, model: tiny}], price: {input_per_million: 0.15, cached_input_per_million: 0.075, output_per_million: 0.60}}
"""


def problems(text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as failure:
        parse(text, "headgate.yaml", environ)
    return failure.value.problems


def test_the_example_of_the_manual_is_read() -> None:
    config = parse(EXAMPLE, "headgate.yaml", {"LAB_KEY": "sk-lab"})
    key = config.providers["lab"].api_key
    assert key is not None
    assert key.get_secret_value() == "sk-lab"
    price = config.models["small"].price
    assert price is not None
    given = {name: str(value) for name, value in price if value is not None}
    assert given == {"input_per_million": "0.15", "cached_input_per_million": "0.075", "output_per_million": "0.6"}


def test_secrets_are_never_printed() -> None:
    config = parse(EXAMPLE, "headgate.yaml", {"LAB_KEY": "sk-lab"})
    assert "sk-lab" not in repr(config)
    assert "sk-lab" not in str(config)
    assert "sk-lab" not in config.model_dump_json()


def test_a_value_of_the_environment_cannot_change_the_structure_of_the_file() -> None:
    config = parse(EXAMPLE, "headgate.yaml", {"LAB_KEY": "x}, evil: {kind: echo"})
    assert list(config.providers) == ["lab"]
    key = config.providers["lab"].api_key
    assert key is not None
    assert key.get_secret_value() == "x}, evil: {kind: echo"


def test_a_default_stands_in_for_a_variable_that_is_not_set() -> None:
    config = parse("listen: {http: '${HOST:-127.0.0.1}:${PORT}'}", "headgate.yaml", {"PORT": "9"})
    assert config.listen.http == "127.0.0.1:9"


def test_two_dollars_are_one() -> None:
    config = parse("models: {a: {targets: [{provider: echo, model: '$${X}'}]}}", "headgate.yaml", {})
    assert config.models["a"].targets[0].model == "${X}"


def test_an_empty_file_is_the_defaults() -> None:
    assert parse("# nothing\n", "headgate.yaml", {}).listen.http == "127.0.0.1:8080"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (EXAMPLE, "headgate.yaml:3: providers.lab.api_key: the environment variable LAB_KEY is not set"),
        ("providers:\n  lab:\n    kind: openai\n    base_ur: x\n", "4: providers.lab.base_ur: there is no such key; is it 'base_url'?"),
        ("listen: {}\nlimit: {}\n", "2: limit: there is no such key; is it 'limits'?"),
        ("models:\n  a:\n    price: {}\n", "2: models.a.targets: is required"),
        ("models:\n  a:\n    targets:\n    - {provider: nobody, model: m}\n", "4: models.a.targets[0].provider: there is no provider 'nobody' (providers: none)"),
        ("storage: false\nauthentication: required", "storage: false keeps nothing, which authentication needs"),
        ("storage: false\ndatabase_url: sqlite:///x.db", "storage: false keeps nothing, which database_url needs"),
        ("providers: {a: {kind: nothing}}", "1: providers.a.kind: must be 'anthropic', "),
        ("providers:\n  a: {kind: openai}", "2: providers.a: base_url is required for kind openai"),
        ("providers:\n  a: {kind: openai, base_url: 'http://me:secret@x/v1'}", "2: providers.a.base_url: must have a host, and no user name"),
        ("providers:\n  a: {kind: openai, base_url: 'http://'}", "2: providers.a.base_url: must have a host"),
        ("providers:\n  a/b: {kind: echo}", "provider name 'a/b' must not be empty or contain a slash"),
        ("providers:\n  a: {host: grok}", "2: providers.a: there is no known host 'grok'; is it 'groq'?"),
        ("providers:\n  a: {host: perplexity}", "2: providers.a: host perplexity has ended its chat completions on 2026"),
        ("providers:\n  a: {host: azure}", "2: providers.a: base_url is required for host azure"),
        ("providers:\n  a: {host: groq, quirks: {nothing: 1}}", "2: providers.a.quirks.nothing: there is no such key"),
        ("listen:\n  http: localhost\n", '2: listen.http: must be "host:port"'),
        ("listen:\n  grpc: http://localhost:1\n", '2: listen.grpc: must be "host:port"'),
        ("listen:\n  http: x:99999\n", '2: listen.http: must be "host:port"'),
        ("limits:\n\n  json_depth: 0\n", "3: limits.json_depth: must be at least 1"),
        ("drain_seconds: .inf\n", "1: drain_seconds: must be a finite number"),
        ("limits: {json_depth: many}", "1: limits.json_depth: must be a whole number"),
        ("limits: {json_depth: 201}", "1: limits.json_depth: must be at most 200"),
        ("limits: {request_body_bytes: 1.5}", "1: limits.request_body_bytes: must be a whole number"),
        ("drain_seconds: soon", "1: drain_seconds: must be a number"),
        ("plans: {A: {}}", "1: plans.A: must match pattern"),
        ("storage: maybe", "1: storage: must be true or false"),
        ("plans: {a: {windows: 5}}", "1: plans.a.windows: must be a list"),
        ("listen: {}\nlisten: {}\n", "2: listen: stands twice (first in line 1)"),
        ("- 1\n", "headgate.yaml:1: must be a mapping of keys to values"),
        ("a: [\n", "is not YAML"),
        ("a: \x00\n", "is not YAML"),
        ("on_unsupported: ignore", "1: on_unsupported: must be 'reject', 'warn' or 'drop'"),
    ],
)  # fmt: skip
def test_a_problem_is_told_with_its_line(text: str, problem: str) -> None:
    found = problems(text)
    assert any(problem in line for line in found), found
    assert all("\n" not in line for line in found)


def test_every_problem_is_told() -> None:
    assert len(problems("a: 1\nb: 2\n")) == 2


def test_a_wrong_secret_is_not_printed() -> None:
    assert "hush" not in str(problems("providers: {a: {kind: openai, base_url: http://x, api_key: [hush]}}"))


def test_a_part_of_a_file_does_without_the_variables_and_the_faults_of_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "headgate.yaml"
    rest = "database_url: ${DATABASE}\nlimits: {json_depth: 0}\n${NAMED}: 1\n"
    path.write_text(EXAMPLE + rest, encoding="utf-8")
    keys = frozenset({"database_url", "data_directory"})
    config = load_part(path, {"DATABASE": "sqlite:///x.db"}, keys)
    assert config.database_url is not None
    assert config.database_url.get_secret_value() == "sqlite:///x.db"
    assert config.providers == {}
    with pytest.raises(ConfigError, match="database_url: the environment variable DATABASE is not set"):
        load_part(path, {}, keys)
    path.write_text("database_url: nothing", encoding="utf-8")
    with pytest.raises(ConfigError, match="1: database_url: must begin with"):
        load_part(path, {}, keys)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory"):
        load(tmp_path / "none.yaml", {})


def test_a_file_that_is_not_text_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "headgate.yaml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load(path, {})
