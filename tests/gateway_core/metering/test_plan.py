from decimal import Decimal

import pytest
from headgate.v1.plan_pb2 import Plan as PlanMessage
from headgate.v1.plan_pb2 import PlanWindow as WindowMessage
from pydantic import ValidationError

from gateway_core.config import Config
from gateway_core.config_plan import PlanConfig
from gateway_core.metering.plan import Plans, PlanWindow, document_of, plan_message, plan_of_document
from gateway_core.storage.database import Database
from gateway_core.storage.plan import TOPIC, delete_plan, put_plan

CONFIG = Config.model_validate(
    {"plans": {"free": {"windows": [{"window_seconds": 60, "requests": 3}]}, "paid": {"price_multiplier": "1.05"}}}
)


async def put(database: Database, name: str, **document: object) -> None:
    async with database.transaction() as connection:
        await put_plan(connection, name, document)
        await database.changes.publish(connection, TOPIC, name)


async def test_plans_of_the_configuration_need_no_database() -> None:
    plans = Plans(CONFIG)
    await plans.open()
    free, paid = await plans.plans()
    assert free.windows == (PlanWindow(60, 3, None),)
    assert Decimal(paid.multiplier.numerator) / paid.multiplier.denominator == Decimal("1.05")
    assert plans.known("gold") is None


async def test_a_row_of_the_database_counts_instead_until_it_is_deleted(database: Database) -> None:
    plans = Plans(CONFIG, database)
    await plans.open()
    await put(database, "free", windows=[{"window_seconds": 60, "requests": 9}])
    plan = await plans.plan("free")
    assert plan is not None
    assert plan.windows == (PlanWindow(60, 9, None),)
    assert plan.created_us is not None
    async with database.transaction() as connection:
        assert await delete_plan(connection, "free")
        await database.changes.publish(connection, TOPIC, "free")
    again = await plans.plan("free")
    assert again is not None
    assert (again.windows, again.created_us) == ((PlanWindow(60, 3, None),), None)


async def test_a_plan_that_changed_is_not_known_before_it_is_read(database: Database) -> None:
    plans = Plans(CONFIG, database)
    await plans.open()
    assert plans.known("free") is not None
    await put(database, "free")
    assert plans.known("free") is None
    assert await plans.plan("free") is not None
    assert plans.known("free") is not None


def test_a_plan_keeps_all_that_the_contract_says() -> None:
    message = PlanMessage(
        name="gold", description="all", context_limit_tokens=1000, allowed_models=["large", "small"],
        price_multiplier="0.9", concurrent_calls_per_key=4, queued_calls_per_key=9, queue_seconds=5,
        windows=[WindowMessage(window_seconds=60, requests=0), WindowMessage(window_seconds=3600, input_tokens=10**9)],
    )  # fmt: skip
    told = plan_message(plan_of_document("gold", document_of(message), 1, 2))
    told.ClearField("create_time")
    told.ClearField("update_time")
    assert told == message


def test_two_windows_of_one_length_are_refused() -> None:
    with pytest.raises(ValidationError, match="same window_seconds"):
        PlanConfig.model_validate({"windows": [{"window_seconds": 1}, {"window_seconds": 1}]})


def test_calls_wait_only_where_not_all_may_run() -> None:
    with pytest.raises(ValidationError, match="needs concurrent_calls_per_key"):
        PlanConfig.model_validate({"queued_calls_per_key": 1})
    cap = plan_of_document(
        "gold", document_of(PlanMessage(concurrent_calls_per_key=1, queued_calls_per_key=2)), 1, 2
    ).cap
    assert cap == (1, 2, 30)


def test_a_plan_has_a_plain_name() -> None:
    with pytest.raises(ValidationError):
        Config.model_validate({"plans": {"Gold Plan": {}}})
