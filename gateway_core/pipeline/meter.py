"""Opens a call in the ledger before anything goes upstream, and closes it before the caller sees its end."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk

from gateway_core.call import Call, Events, Given, Next, whole
from gateway_core.catalog.gateway_endpoint import EndpointTarget
from gateway_core.errors import GatewayError
from gateway_core.metering.ledger import Ledger
from gateway_core.metering.price import Price, usd_text
from gateway_core.metering.record import Attempt, Ending, Outcome, Question, Record, Tried
from gateway_core.telemetry import names
from gateway_core.telemetry.record import AttemptRecord, CallRecord, status

STARTED = ChatCompletionChunk()
HTTP_OK = 200


class Stage:
    """Outside of the stage `fallback`: a call is charged once, whatever was tried."""

    def __init__(self, ledger: Ledger, prices: Mapping[str, Price]) -> None:
        """Takes the ledger, and the prices by the names of models."""
        self._ledger = ledger
        self._prices = prices

    async def __call__(self, call: Call[Any], next: Next[Any]) -> Events:
        """Opens, and watches the events until they end; raises StorageUnavailable where nothing can be written."""
        ledger = self._ledger
        record = await ledger.open(self._asked(call))
        try:
            events = await next(call)
            if not call.stream:
                answer = events if isinstance(events, Given) else await whole(events)
                record.measure.note_whole(answer.said)
                await ledger.settle(record, outcome(call, record, None))
                call.cost_pico_usd = record.cost
                if answer.json is None and record.cost is not None:
                    tell_cost(answer.events, record.cost)
                return answer
        except Exception as error:
            await self._settle(call, record, error)
            raise
        except BaseException as error:
            # Nobody waits for the answer any more.
            self._end(call, record, error)
            raise
        if call.target is not None:
            record.provider = call.target.provider
        watched = self._watch(call, record, events)
        # As in the stage `trace`: closing a generator that has not run yet runs none of it.
        await anext(watched)
        return watched

    async def _watch(self, call: Call[Any], record: Record, events: Events) -> Events:
        ledger, price, measure = self._ledger, record.price, record.measure
        is_noted = False
        try:
            try:
                yield STARTED
                async for event in events:
                    measure.note(event)
                    if not is_noted and measure.characters:
                        is_noted = True
                        ledger.note(record)
                    if price is not None and measure.told is not None and "usage" in event:
                        cost = price.cost(measure.told, record.multiplier)
                        event.usage.cost_usd = usd_text(cost)
                    yield event
            finally:
                await events.aclose()
        except Exception as error:
            await self._settle(call, record, error)
            raise
        except BaseException as error:
            self._end(call, record, error)
            raise
        await self._settle(call, record, None)
        call.cost_pico_usd = record.cost

    async def _settle(self, call: Call[Any], record: Record, error: Exception | None) -> None:
        try:
            await self._ledger.settle(record, outcome(call, record, error))
        finally:
            tell_charged(call, record)

    def _end(self, call: Call[Any], record: Record, error: BaseException) -> None:
        self._ledger.end(record, outcome(call, record, error))
        tell_charged(call, record)

    def _asked(self, call: Call[Any]) -> Question:
        caller, gateway, name, targets = call.caller, call.gateway, call.model, call.targets
        # An endpoint of the caller's own bills the caller itself, whatever it calls its model.
        price = None if targets and isinstance(targets[0], EndpointTarget) else self._prices.get(name)
        gateway_id, version = "", 0
        if gateway is not None:
            name, gateway_id, version = gateway.slug, gateway.id, gateway.version
        return (
            call.request_id,
            caller.account_id,
            call.operation.name,
            name,
            call.stream,
            caller.key_id,
            gateway_id,
            version,
            names.known_dialect(call.metadata),
            call.tag or caller.default_tag,
            labels(call),
            price,
            call.price_multiplier,
            call.reserved_pico_usd,
            call.cover,
            call.prompt_token_count,
        )


def labels(call: Call[Any]) -> dict[str, str]:
    """The caller's names and values, and by which certificate it called; nobody else tells of one."""
    told, certificate = call.operation.labels(call), call.caller.certificate
    if certificate:
        told[names.CERTIFICATE_LABEL] = certificate
    elif told and names.CERTIFICATE_LABEL in told:
        del told[names.CERTIFICATE_LABEL]
    return told


def tell_charged(call: Call[Any], record: Record) -> None:
    """Tells the stages outside what a call costs that did not end well, where that is anything."""
    if record.cost:
        call.cost_pico_usd = record.cost


def tell_cost(events: Sequence[ChatCompletionChunk], cost: int) -> None:
    """Puts the cost beside the tokens."""
    for event in events:
        if "usage" in event:
            event.usage.cost_usd = usd_text(cost)


def outcome(call: Call[Any], record: Record, error: BaseException | None) -> Ending:
    """How a call has ended, with its attempts as the telemetry saw them."""
    how = status(error, call)
    seen = call.record
    if isinstance(seen, CallRecord):
        return how, tried(seen.attempts, how)
    if call.target is None:
        return Outcome(how)
    ended = time.perf_counter()
    told = call.upstream_request_id
    one = Attempt(call.target.provider, call.target.model, how, record.started, ended, upstream_request_id=told)
    return Outcome(how, (one,))


def tried(attempts: Sequence[AttemptRecord], how: str) -> Sequence[Tried]:
    """The attempts; one that has not ended yet ends with its call."""
    found: list[Tried] = []
    for seen in attempts:
        target = seen.target
        found.append((
            target.provider,
            target.model,
            seen.status or how,
            seen.started,
            seen.ended or time.perf_counter(),
            http_status(seen),
            seen.upstream_request_id,
        ))  # fmt: skip
    return found


def http_status(seen: AttemptRecord) -> int | None:
    """The status with which an attempt was answered. None: it was not, or nobody told."""
    error = seen.error
    told = error.metadata.get("upstream_status") if error is not None and isinstance(error, GatewayError) else None
    return int(told) if told else HTTP_OK if seen.answer is not None else None
