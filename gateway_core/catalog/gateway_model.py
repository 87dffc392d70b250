"""Gateways as models that can be asked, for lists of both."""

from collections.abc import Iterable, Mapping

from headgate.v1.model_pb2 import Model

from gateway_core.catalog.catalog import Catalog, target_message
from gateway_core.catalog.gateway import Version
from gateway_core.catalog.gateway_endpoint import NAME
from gateway_core.errors import ModelNotFound


def gateway_models(versions: Iterable[Version], catalog: Catalog, known: Mapping[str, Model]) -> list[Model]:
    """The gateways under their slugs, with what is known of the models behind them, by the names of these."""
    return [gateway_model(version, catalog, known.get(version.message.model)) for version in versions]


def gateway_model(version: Version, catalog: Catalog, behind: Model | None) -> Model:
    """A gateway under its slug. Takes what is known of the model behind it."""
    gateway = version.message
    model = Model()
    if gateway.HasField("endpoint"):
        model.owned_by = NAME
        model.targets.add(provider=NAME, model=gateway.endpoint.model)
    elif behind is not None:
        model.CopyFrom(behind)
        model.extra_json = ""
    else:
        set_targets(model, catalog, gateway.model)
    model.id = version.use.slug
    model.created = gateway.create_time.seconds
    return model


def set_targets(model: Model, catalog: Catalog, name: str) -> None:
    """Sets where a model goes that nobody lists; nowhere, where the configuration has it no more."""
    try:
        targets = catalog.targets(name)
    except ModelNotFound:
        return
    model.targets.extend(target_message(target) for target in targets)
    model.owned_by = targets[0].provider
