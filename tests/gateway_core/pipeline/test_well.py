"""That a call went well is known of its target, by which other processes' words of it are judged."""

from gateway_core.config import CircuitConfig
from tests.gateway_core.pipeline.test_routing import World


async def test_a_target_where_a_call_goes_well_is_known_to_be_well_though_nothing_has_failed() -> None:
    world = World()
    first, second = sorted(world.board.configured(), key=lambda state: state.provider)
    assert await world.answer() == "from a"
    assert first.circuit.was_well(world.now)
    assert not second.circuit.was_well(world.now)
    assert not first.circuit.was_well(world.now + CircuitConfig().window_seconds)
