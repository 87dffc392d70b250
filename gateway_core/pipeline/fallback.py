"""Tries the targets of a call until one opens; what is tried when, the domain `routing` decides."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from gateway_core.call import Call, Events, Next
from gateway_core.errors import DeadlineExceeded, GatewayError, InvalidRequest, ProviderTimeout, ProviderUnauthorized
from gateway_core.routing.beginning import begun
from gateway_core.routing.board import Board
from gateway_core.routing.failure import FIRST_TOKEN
from gateway_core.routing.race import Racer, fastest
from gateway_core.routing.route import REGION, TAG, Place, Route
from gateway_core.routing.trip import Trip
from gateway_core.telemetry import Telemetry
from gateway_core.telemetry.record import AttemptRecord, failed_attempt


class Stage:
    """Sets the target of each attempt; what is tried again is the opening only."""

    def __init__(
        self, telemetry: Telemetry, board: Board, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        """Takes where attempts are told, what is known of the targets, and what waits for some seconds."""
        self._attempts = telemetry.attempts
        self._board = board
        self._budget = board.budget
        self._sleep = sleep

    async def __call__(self, call: Call[Any], next: Next[Any]) -> Events:
        """Opens at the first target that accepts; raises the failure that tells most where none does."""
        if call.deadline is not None and asyncio.get_running_loop().time() >= call.deadline:
            raise DeadlineExceeded("The deadline passed before a provider was asked.")
        if not call.attempt_count:  # one that has had attempts is the same call, which goes on elsewhere
            self._budget.calls += 1
        route = call.route
        if not isinstance(route, Route):
            route = self._board.unknown_route(call.targets)
        state, metadata = route.state, call.metadata
        is_plain = route.is_plain and (route.is_alone or state.is_quiet)
        if not is_plain or REGION in metadata or TAG in metadata:
            return await self._travel(Trip(self._board.means, route, call), call, next)
        # There is nothing to decide unless it fails.
        call.target = route.targets[0]
        call.attempt_count = 1
        state.in_flight += 1
        attempt = self._attempts.begin(call, state)
        try:
            events = await next(call)
        except GatewayError as error:
            self._fail(call, attempt, error)
            trip = Trip(self._board.means, route, call)
            return await self._go_on(trip, trip.began(), error, call, next)
        except BaseException as error:
            self._fail(call, attempt, error)
            raise
        circuit, now = state.circuit, self._board.clock()
        if circuit.is_quiet:
            circuit.well_at = now
        else:
            circuit.passes(now)
            circuit.succeeded(now)
        if call.stream and not route.is_alone:
            state.percentile.add(time.perf_counter() - attempt.started)
        self._attempts.opened(attempt)
        return events

    async def _travel(self, trip: Trip, call: Call[Any], next: Next[Any]) -> Events:
        step = trip.first()
        try:
            return await self._open(trip, step.place, call, next)
        except GatewayError as error:
            return await self._go_on(trip, step.place, error, call, next)

    async def _go_on(self, trip: Trip, place: Place, error: GatewayError, call: Call[Any], next: Next[Any]) -> Events:
        """Tries again, here and elsewhere, after a failure."""
        told = error
        step = trip.after(place, error)
        while step is not None:
            if step.wait_seconds:
                await self._sleep(step.wait_seconds)
            place = step.place
            try:
                return await self._open(trip, place, call, next)
            except InvalidRequest:
                # What this target cannot take says nothing of the failure of the one before.
                step = trip.past()
                continue
            except GatewayError as another:
                error = another
            # That the key was refused is nothing that a caller can do anything about.
            if not isinstance(error, ProviderUnauthorized) or isinstance(told, ProviderUnauthorized):
                told = error
            step = trip.after(place, error)
        raise told

    async def _open(self, trip: Trip, place: Place, call: Call[Any], next: Next[Any]) -> Events:
        delay = place.state.patience(hedges=trip.route.hedges) if call.stream else None
        if delay is None:
            return await self._attempt(trip, place, call, next)
        return await self._race(trip, place, delay, call, next)

    async def _attempt(self, trip: Trip, place: Place, call: Call[Any], next: Next[Any]) -> Events:
        attempt = self._begin(call, place)
        events = await self._opened(trip, place, attempt, next)
        self._attempts.opened(attempt)
        return events

    async def _race(self, trip: Trip, place: Place, delay: float, call: Call[Any], next: Next[Any]) -> Events:
        """Asks a second target where the first is late; the first that has a token answers, the other is cancelled."""
        racers = [self._racer(trip, place, call, next)]
        events: Events | None = None
        try:
            if not await racers[0].is_done_within(delay) and (step := trip.beside()) is not None:
                call.attempt_count += 1
                second = replace(call, attempt_count=call.attempt_count - 1, rewrites=[], failed_attempts=())
                racers.append(self._racer(trip, step.place, second, next))
            winner = await fastest(racers)
            events = winner.win()
        finally:
            await self._stop(trip, call, racers, events)
        call.target = winner.call.target
        call.rewrites[:] = winner.call.rewrites
        call.upstream_request_id = winner.call.upstream_request_id
        self._attempts.last(winner.attempt)
        self._attempts.opened(winner.attempt)
        return events

    def _racer(self, trip: Trip, place: Place, call: Call[Any], next: Next[Any]) -> Racer[AttemptRecord]:
        attempt = self._begin(call, place)
        return Racer(place, call, attempt, self._opened(trip, place, attempt, next))

    async def _stop(
        self, trip: Trip, call: Call[Any], racers: Sequence[Racer[AttemptRecord]], won: Events | None
    ) -> None:
        """Ends those that have not won, and tells what became of the second."""
        for racer in racers:
            racer.cancel()
        for racer in racers:
            try:
                if await racer.stop():
                    self._fail(racer.call, racer.attempt, asyncio.CancelledError())
            except BaseException:
                # The caller leaves in this very moment.
                if won is not None:
                    await won.aclose()
                raise
            if not racer.has_won and any(other.has_won for other in racers):
                racer.place.state.lose()
        for second in racers[1:]:
            call.failed_attempts += second.call.failed_attempts
            error = second.failed()
            if isinstance(error, GatewayError):
                trip.note(second.place, error)
            self._board.count_hedge(second.place, failed=error is not None, won=second.has_won)

    def _begin(self, call: Call[Any], place: Place) -> AttemptRecord:
        call.target = place.target
        call.attempt_count += 1
        call.upstream_request_id = ""
        del call.rewrites[:]
        place.state.begin(self._board.clock())
        return self._attempts.begin(call, place.state)

    async def _opened(self, trip: Trip, place: Place, attempt: AttemptRecord, next: Next[Any]) -> Events:
        call, clock = attempt.call, self._board.clock
        began = clock()

        def first() -> None:
            now = clock()
            place.state.opened(now, now - began, stream=call.stream)

        try:
            if trip.route.awaits_token and call.stream:
                events = await self._begun(trip, place, call, next, first)
            else:
                events = await next(call)
                first()
        except BaseException as error:
            self._fail(call, attempt, error)
            raise
        return events

    async def _begun(
        self, trip: Trip, place: Place, call: Call[Any], next: Next[Any], first: Callable[[], None]
    ) -> Events:
        """Opens, with the first token within the time that there is for it."""
        route = trip.route
        # Who cannot go elsewhere waits for as long as the provider's own timeouts allow.
        limit = route.first_token_seconds if trip.has_next else None
        try:
            async with asyncio.timeout(limit) as timer:

                def in_time() -> None:
                    timer.reschedule(None)
                    first()

                return await begun(await next(call), route.hold_seconds, in_time)
        except TimeoutError:
            if limit is None:
                raise
            provider = place.target.provider
            message = f"Provider {provider} took too long: waited {limit:g} s for the first token."
            raise ProviderTimeout(message, provider=provider, phase=FIRST_TOKEN) from None

    def _fail(self, call: Call[Any], attempt: AttemptRecord, error: BaseException) -> None:
        self._attempts.failed(attempt, error)
        call.failed_attempts += (failed_attempt(attempt, error),)
