"""The lines of the log."""

import asyncio
import io
import json
import logging
import sys

import pytest
import structlog
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk

from gateway_core.call import Rewrite, Target
from gateway_core.config import Config, LogConfig
from gateway_core.errors import DeadlineExceeded, GatewayError, Internal, ModelNotFound, ProviderTimeout
from gateway_core.telemetry import Telemetry
from gateway_core.telemetry.log import configure_log
from gateway_core.tokens import tokens_of
from tests.gateway_core.telemetry.calls import LAB, finish, new_call
from tests.gateway_core.telemetry.conftest import Log


class Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


def end_of(error: BaseException | None, **metadata: str) -> None:
    telemetry = Telemetry(Config(), {})
    telemetry.end(telemetry.begin(new_call(metadata=metadata)), error)


def test_a_call_is_one_line_with_all_that_is_known_of_it(log: Log) -> None:
    telemetry = Telemetry(Config(), {})
    call = new_call(metadata={"x-headgate-dialect": "openai"})
    record = telemetry.begin(call)
    call.targets, call.target, call.attempt_count = (LAB,), LAB, 2
    call.rewrites.append(Rewrite("logit_bias", "lab has no word for it"))
    call.target = Target("spare", "tiny-2")
    telemetry.attempts.failed(
        telemetry.attempts.begin(call), ProviderTimeout("spare was silent.", provider="spare", phase="idle")
    )
    call.target = LAB
    record.usage, record.response_model, record.finish_reasons = (
        tokens_of(finish().usage),
        "tiny-2026",
        {1: "length", 0: "stop"},
    )
    record.first_event_at = record.started + 0.25
    telemetry.end(record, None)
    (line,) = log.lines
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert line.pop("timestamp").endswith("Z")
    assert line.pop("duration_ms") >= 0
    assert line == {
        "level": "info",
        "event": "call",
        "request_id": "call-1",
        "operation": "chat",
        "dialect": "openai",
        "stream": True,
        "requested_model": "small",
        "status": "ok",
        "attempts": 2,
        "failed_attempts": ["spare/tiny-2: provider_timeout"],
        "time_to_first_token_ms": 250.0,
        "provider": "lab",
        "response_model": "tiny-2026",
        "finish_reason": "stop",
        "input_tokens": 12,
        "output_tokens": 5,
        "cached_tokens": 4,
        "reasoning_tokens": 2,
        "rewrites": ["logit_bias"],
    }


@pytest.mark.parametrize(
    ("error", "level", "status"),
    [
        (None, "info", "ok"),
        (asyncio.CancelledError(), "info", "cancelled"),
        (ModelNotFound("There is no model x.", param="model", model="x"), "info", "model_not_found"),
        (DeadlineExceeded("Too late."), "info", "deadline_exceeded"),
        (ProviderTimeout("lab was silent.", provider="lab", phase="idle"), "warning", "provider_timeout"),
        (Internal("Headgate failed."), "error", "internal"),
        (KeyError("x"), "error", "internal"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_level_tells_whose_fault_a_failure_is(
    log: Log, error: BaseException | None, level: str, status: str
) -> None:
    end_of(error)
    (line,) = log.lines
    assert (line["level"], line["status"]) == (level, status)
    assert line.get("message") == (error.message if isinstance(error, GatewayError) else None)


def test_a_fault_of_ours_is_logged_in_full_without_the_values_of_variables(log: Log) -> None:
    def fault() -> None:
        key = "-".join(("sk", "secret"))
        raise ZeroDivisionError(len(key))

    with pytest.raises(ZeroDivisionError) as raised:
        fault()
    end_of(raised.value)
    assert "Traceback" in log.lines[0]["exception"]
    assert "in fault" in log.lines[0]["exception"]
    assert "sk-secret" not in log.text


def test_the_call_of_a_grpc_client_has_the_dialect_grpc_and_an_invented_one_is_not_repeated(log: Log) -> None:
    end_of(None)
    end_of(None, **{"x-headgate-dialect": "x" * 9999})
    assert [line["dialect"] for line in log.lines] == ["grpc", "_other"]


def test_what_callers_and_providers_write_is_cut(log: Log) -> None:
    telemetry = Telemetry(Config(), {})
    record = telemetry.begin(new_call("m" * 9999))
    record.response_model = "n" * 9999
    record.finish_reasons = {0: "f" * 9999}
    record.call.rewrites.extend(Rewrite("r" * 9999, "") for _ in range(999))
    telemetry.end(record, ModelNotFound("e" * 9999, param="model", model=""))
    assert len(log.text) < 20_000


def test_keys_that_are_no_texts_are_logged_as_texts(log: Log) -> None:
    structlog.get_logger().info("odd", answers={0: "stop", None: "length"})
    assert log.lines[0]["answers"] == {"0": "stop", "null": "length"}


def test_a_token_count_beyond_64_bits_or_half_a_surrogate_is_logged_all_the_same(log: Log) -> None:
    structlog.get_logger().info("odd", number=2**70, text="\ud800")
    assert log.lines[0]["number"] == 2**70
    assert log.lines[0]["text"] == "\ud800"


def test_loggers_of_the_standard_library_come_in_the_same_form_from_warnings_on(log: Log) -> None:
    logging.getLogger("uvicorn.error").setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").info("Started %s", "now")
    logging.getLogger("grpc._cython").warning("a %s", "b")
    logging.getLogger("asyncio").log(35, "between two levels")
    try:
        raise OSError("gone")
    except OSError:
        logging.getLogger("aiohttp.server").exception("Unhandled")
    assert [(line["level"], line["event"], line["logger"]) for line in log.lines] == [
        ("warning", "a b", "grpc._cython"),
        ("warning", "between two levels", "asyncio"),
        ("error", "Unhandled", "aiohttp.server"),
    ]
    assert log.lines[2]["exception"].endswith("OSError: gone")


def test_handlers_that_a_library_brought_are_removed(unconfigured: None) -> None:
    logger = logging.getLogger("uvicorn")
    logger.addHandler(logging.StreamHandler())
    logger.propagate = False
    stream = io.BytesIO()
    configure_log(LogConfig(format="json"), stream)
    logger.error("once")
    assert json.loads(stream.getvalue())["event"] == "once"


def test_configuring_twice_logs_once(log: Log) -> None:
    stream = io.BytesIO()
    configure_log(LogConfig(format="json"), stream)
    logging.getLogger("grpc").error("once")
    assert len(stream.getvalue().splitlines()) == 1
    assert not log.lines


def test_lines_below_the_level_are_not_written(unconfigured: None) -> None:
    stream = io.BytesIO()
    configure_log(LogConfig(format="json", level="warning"), stream)
    end_of(None)
    assert not stream.getvalue()
    end_of(KeyError("x"))
    assert stream.getvalue()


def test_a_terminal_gets_lines_for_a_person_and_anything_else_json(unconfigured: None) -> None:
    terminal, pipe = Terminal(), io.BytesIO()
    for stream in (terminal, pipe):
        configure_log(LogConfig(), stream)
        end_of(None)
    assert "\x1b[" in terminal.getvalue().decode()
    assert "request_id" in terminal.getvalue().decode()
    assert json.loads(pipe.getvalue())["request_id"] == "call-1"


def test_no_color_is_honoured(unconfigured: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    configure_log(LogConfig(), terminal)
    end_of(None)
    assert b"\x1b[" not in terminal.getvalue()


def test_a_caller_cannot_move_the_cursor_of_a_terminal_or_forge_a_line(unconfigured: None) -> None:
    stream = io.BytesIO()
    configure_log(LogConfig(format="console"), stream)
    telemetry = Telemetry(Config(), {})
    telemetry.end(telemetry.begin(new_call("\x1b[2J\r\n2026 forged")), None)
    text = stream.getvalue().decode()
    assert "\x1b" not in text
    assert text.count("\n") == 1


def test_a_console_shows_the_traceback_of_a_fault(unconfigured: None) -> None:
    stream = io.BytesIO()
    configure_log(LogConfig(format="console"), stream)
    end_of(ZeroDivisionError("x"))
    assert "ZeroDivisionError: x" in stream.getvalue().decode().splitlines()


def test_a_log_that_cannot_be_written_does_not_fail_the_call(unconfigured: None) -> None:
    stream = io.BytesIO()
    configure_log(LogConfig(format="json"), stream)
    stream.close()
    end_of(None)


def test_lines_go_to_the_standard_error_of_the_moment(
    unconfigured: None, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    configure_log(LogConfig(format="json"))
    end_of(None)
    captured = capfdbinary.readouterr()
    assert json.loads(captured.err)["event"] == "call"
    assert not captured.out
    assert sys.stderr.buffer


def test_an_answer_without_details_has_no_fields_for_them(log: Log) -> None:
    telemetry = Telemetry(Config(), {})
    record = telemetry.begin(new_call(stream=False))
    event = ChatCompletionChunk()
    event.usage.prompt_tokens = 3
    record.usage, record.first_event_at = tokens_of(event.usage), record.started
    telemetry.end(record, None)
    (line,) = log.lines
    assert line["input_tokens"] == 3
    assert not {"cached_tokens", "reasoning_tokens", "time_to_first_token_ms", "message", "rewrites"} & set(line)
