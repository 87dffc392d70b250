"""The commands: their options and their help. What a command does is loaded when it runs.

Each function here is only the signature of a command; its body hands over to `run` of the module of the same name
(`serve` to headgate_cli/serve.py), which `work` imports by that name. So `headgate --help` and `headgate version` cost
no import of gRPC, of an HTTP server or of the configuration, and this file is the whole table of contents.
"""

import platform
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

app = typer.Typer(
    name="headgate",
    help="Headgate, an inference gateway: one door before many models, over gRPC and the OpenAI and Ollama APIs.",
    epilog="Exit status: 0 done, 1 failed, 2 wrong use, 130 interrupted. HEADGATE_DEBUG=1 shows tracebacks.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DEFAULT_URL = "http://127.0.0.1:8080"

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="Configuration. Default: ./headgate.yaml, then the data directory's."
    ),
]
DataDirectory = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", envvar="HEADGATE_DATA", help="Data directory. Default: the platform's."),
]
Url = Annotated[str | None, typer.Option("--url", metavar="URL", help=f"Ask over REST, there. Default: {DEFAULT_URL}.")]
GrpcAddress = Annotated[
    str | None,
    typer.Option("--grpc", metavar="HOST:PORT", help="Ask over gRPC, there, not REST; TLS: https://HOST:PORT."),
]


def work(command: str) -> Any:
    """The module that does what a command says."""
    return import_module(f"headgate_cli.{command}")


@app.command(
    epilog="""\b
Examples:
    headgate serve                            what is found here, on 127.0.0.1:8080 and 127.0.0.1:50051
    headgate serve --config headgate.yaml --http 0.0.0.0:8080
    headgate serve --workers auto             a process for each processor, behind the same addresses
    headgate serve core --grpc 0.0.0.0:50051 --http 127.0.0.1:9464
                                              the core alone, with its health and metrics over HTTP
    headgate serve bridge --core 10.0.0.7:50051 --http 0.0.0.0:8080"""
)
def serve(  # noqa: PLR0913  # its parameters are the options
    part: Annotated[
        Literal["core", "bridge"] | None,
        typer.Argument(help="Serve the core or the bridge alone. Default: both, in one process.", metavar="PART"),
    ] = None,
    config: ConfigFile = None,
    data: DataDirectory = None,
    http: Annotated[
        str | None, typer.Option("--http", metavar="HOST:PORT", help="Listen there for HTTP; port 0: a free one.")
    ] = None,
    grpc: Annotated[
        str | None, typer.Option("--grpc", metavar="HOST:PORT", help="Listen there for gRPC; port 0: a free one.")
    ] = None,
    core: Annotated[
        str | None,
        typer.Option(
            "--core",
            metavar="HOST:PORT",
            help="The core that a bridge asks; TLS: https://HOST:PORT. Default: 127.0.0.1:50051.",
        ),
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option("--workers", metavar="N|auto", help="Processes that share the addresses. Default: 1."),
    ] = None,
    as_worker: Annotated[str | None, typer.Option("--as-worker", hidden=True)] = None,
) -> int:
    """Serve: the core over gRPC, and the bridge over HTTP.

    PART is `core` or `bridge`. Without a configuration, providers are found by their keys in the environment
    (OPENAI_API_KEY, ANTHROPIC_API_KEY, ...) and by the local servers that answer (Ollama, vLLM, llama.cpp, ...). The
    model echo/echo always answers.

    SIGTERM or Ctrl-C drains: open answers finish within drain_seconds. A second one ends at once. With --workers,
    SIGHUP restarts the workers one after another, with the configuration of then and without a lost call.
    """
    options = work("serve_options").ServeOptions(part, config, data, http, grpc, core, workers, as_worker)
    options.check()
    code: int = work("serve" if as_worker is not None else "workers").run(options)
    return code


@app.command(
    epilog="""\b
Examples:
    headgate chat echo/echo 'Hello!'
    git diff | headgate chat openai/gpt-5 --system 'Review this diff.'
    headgate chat ollama/llama3.2             a conversation; Ctrl-C cancels an answer, Ctrl-D ends it
    headgate chat --grpc 127.0.0.1:50051 echo/echo Hello"""
)
def chat(
    model: Annotated[
        str | None, typer.Argument(help="Model that is asked. Default: the first that is listed.", metavar="MODEL")
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Argument(help="What to say. Default: the standard input.", metavar="PROMPT...")
    ] = None,
    url: Url = None,
    grpc: GrpcAddress = None,
    system: Annotated[str | None, typer.Option("--system", metavar="TEXT", help="Instructions for the model.")] = None,
) -> int:
    """Chat with a model of a gateway that is running; the answer is shown as it comes."""
    module = work("chat")
    options = module.ChatOptions(model=model, prompt=" ".join(prompt or ()), url=url, grpc=grpc, system=system)
    code: int = module.run(options)
    return code


@app.command(
    epilog="""\b
Examples:
    headgate models
    headgate models --json
    headgate models --grpc 127.0.0.1:50051"""
)
def models(
    url: Url = None,
    grpc: GrpcAddress = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document in the place of a table.")] = False,
) -> int:
    """List the models of a gateway that is running."""
    code: int = work("models").run(url=url, grpc=grpc, as_json=as_json)
    return code


@app.command(
    epilog="""\b
Examples:
    headgate usage                            what each of the last 30 days cost
    headgate usage --by model --days 7
    headgate usage --from 2026-01-01 --to 2026-01-31
    headgate usage --by account --sub-accounts --json"""
)
def usage(  # noqa: PLR0913  # its parameters are the options
    url: Url = None,
    grpc: GrpcAddress = None,
    by: Annotated[
        Literal["day", "hour", "model", "key", "gateway", "tag", "account"],
        typer.Option("--by", help="What the calls of a row have in common."),
    ] = "day",
    days: Annotated[
        int | None, typer.Option("--days", min=1, max=3660, help="So many days until the last one. Default: 30.")
    ] = None,
    first: Annotated[
        str | None, typer.Option("--from", metavar="DAY", help="First day, in UTC, such as 2026-01-31.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DAY", help="Last day, in UTC. Default: today.")] = None,
    sub_accounts: Annotated[bool, typer.Option("--sub-accounts", help="The calls of accounts below, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document in the place of a table.")] = False,
) -> int:
    """Show what was used and what it cost. The key is that of HEADGATE_API_KEY.

    FAILED counts the calls whose status is `failed`; those that are `cancelled` or `interrupted` are counted as calls.
    """
    module = work("usage")
    options = module.UsageOptions(url, grpc, by, days, first, last, sub_accounts, as_json)
    code: int = module.run(options)
    return code


@app.command(
    epilog="""\b
Examples:
    headgate doctor
    headgate doctor --config headgate.yaml
    headgate doctor ledger                    adds the ledger up, and compares it with the balances"""
)
def doctor(
    part: Annotated[Literal["ledger"] | None, typer.Argument(help="Examine the ledger alone.", metavar="PART")] = None,
    config: ConfigFile = None,
    data: DataDirectory = None,
) -> int:
    """Say what is wrong, and what to do: configuration, providers, ports, versions, clock; or examine the ledger.

    Every provider is asked for its models. The exit status is 1 where something is wrong.
    """
    code: int = work("doctor" if part is None else "ledger_doctor").run(config=config, data=data)
    return code


envoy = typer.Typer(
    help="Write what an Envoy in front needs.", no_args_is_help=True, rich_markup_mode=None, add_completion=False
)
app.add_typer(envoy, name="envoy")
OutputFile = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there. Default: the standard output.")
]


@envoy.command(
    epilog="""\b
Examples:
    headgate envoy render -o envoy.yaml
    headgate envoy render --config headgate.yaml"""
)
def render(config: ConfigFile = None, output: OutputFile = None) -> None:
    """Write the configuration of an Envoy before the Headgate that the configuration describes.

    Its section `envoy` says what Headgate itself has no need to know. Keys of providers are not needed.
    """
    work("envoy.commands").render(config=config, output=output)


@envoy.command()
def run(config: ConfigFile = None) -> int:
    """Serve, with an Envoy in front, on this machine: both end when one does, or on Ctrl-C."""
    code: int = work("envoy.together").run(config=config)
    return code


@envoy.command()
def descriptors(
    output: OutputFile = None,
    prefix: Annotated[str, typer.Option("--prefix", metavar="PATH", help="What stands before each path.")] = "",
) -> None:
    """Write the administrative services as a FileDescriptorSet, for whatever reads one: Envoy's JSON transcoder."""
    work("envoy.commands").descriptors(output=output, prefix=prefix)


@app.command()
def version() -> None:
    """Print the version."""
    print(version_line())


def version_line() -> str:
    """The version, and what it runs on."""
    return f"headgate {version_text()} (Python {platform.python_version()}, {platform.system()} {platform.machine()})"


def print_version(asked: bool) -> None:
    """Does what the command `version` does, where the option is given."""
    if asked:
        print(version_line())
        raise typer.Exit


@app.callback()
def options(
    version_asked: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and end."),
    ] = False,
) -> None:
    """The options before a command. What Typer shows as help is the program's own text."""


def version_text() -> str:
    """The version that is installed."""
    try:
        return installed_version("headgate")
    except PackageNotFoundError:
        return "from a tree that is not installed"
