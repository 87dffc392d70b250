"""What is known of models fills what the configuration leaves open; what the configuration says always counts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from headgate.v1.model_pb2 import Model, ModelPrice

from gateway_core.config import Config, ModelConfig, PriceConfig, ProviderConfig, TargetConfig
from gateway_core.known.hosts import Host, known_hosts
from gateway_core.known.models import SNAPSHOT, KnownPrice, ModelFacts, known_model, known_models

Value = TypeVar("Value")


class Known:
    """What is known of the models of a configuration's providers: nothing where `known_models` is false."""

    def __init__(self, config: Config) -> None:
        """Looks up the hosts of the providers."""
        self._hosts = {name: host_of(row) for name, row in config.providers.items()} if config.known_models else {}

    def facts(self, provider: str, model: str) -> ModelFacts | None:
        """What is known of a model at a provider."""
        return known_model(self._hosts.get(provider), model)

    def prices(self) -> Iterator[tuple[str, PriceConfig]]:
        """The prices of models that are asked as "provider/model"."""
        for provider, host in self._hosts.items():
            for (at, model), facts in known_models().items():
                if at == host and (price := price_of(facts.price)) is not None:
                    yield f"{provider}/{model}", price


def host_of(row: ProviderConfig) -> str | None:
    """The known host that a provider asks, under the name that its models have. None: another one."""
    hosts = {host.name: host for host in known_hosts().hosts}
    host = hosts.get(row.host or "") or at_server(row.base_url or "")
    return None if host is None else host.models_of or host.name


def at_server(url: str) -> Host | None:
    """The known host whose server a URL names, whatever of its APIs is there."""
    server = urlsplit(url).hostname
    return known_hosts().at(url) or next(
        (host for host in known_hosts().hosts if host.base_url and urlsplit(host.base_url).hostname == server), None
    )


def with_known_models(config: Config) -> Config:
    """A configuration whose rows tell what is known of their targets, where they leave it open."""
    known = Known(config)
    rows = {name: completed(known, row) for name, row in config.models.items()}
    return config.model_copy(update={"models": rows})


def completed(table: Known, row: ModelConfig) -> ModelConfig:
    """A row with what is known of its targets: of several, what holds for all."""
    facts = [table.facts(target.provider, target.model) for target in row.targets]
    if not any(facts):
        return row
    known = [each for each in facts if each is not None]
    is_known = len(known) == len(facts)
    price = row.price
    if price is None and is_known and len({each.price for each in known}) == 1:
        price = price_of(known[0].price)
    update: dict[str, object] = {
        "targets": tuple(map(completed_target, row.targets, facts, [row.context_length] * len(facts))),
        "price": price,
    }
    if is_known:
        update |= {
            "context_length": row.context_length or least([each.context_length for each in known]),
            "max_output_tokens": row.max_output_tokens or least([each.max_output_tokens for each in known]),
            "input_modalities": row.input_modalities or common([each.input_modalities for each in known]),
            "output_modalities": row.output_modalities or common([each.output_modalities for each in known]),
            "features": row.features if row.features is not None else frozenset.intersection(*features(known)),
        }
    return row.model_copy(update=update)


def completed_target(target: TargetConfig, facts: ModelFacts | None, context_length: int | None) -> TargetConfig:
    """A target with what is known of it; takes the context length that its row tells for all."""
    if facts is None:
        return target
    update = {
        "context_length": target.context_length or context_length or facts.context_length,
        "price": target.price or price_of(facts.price),
    }
    return target.model_copy(update=update)


def features(known: Sequence[ModelFacts]) -> list[frozenset[str]]:
    """What each of some models can do."""
    return [frozenset(map(str, each.features)) for each in known]


def least(values: Sequence[int | None]) -> int | None:
    """The least of some numbers. None: one of them is not known."""
    found = [value for value in values if value is not None]
    return min(found) if len(found) == len(values) else None


def common(lists: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """What is in all of some lists, in the order of the first."""
    return tuple(item for item in lists[0] if all(item in each for each in lists))


def price_of(price: KnownPrice | None) -> PriceConfig | None:
    """A known price as one of the configuration."""
    return None if price is None else PriceConfig.model_validate(price.model_dump())


def set_facts(model: Model, facts: ModelFacts) -> None:
    """Sets what is known of a model where its message leaves it open."""
    if facts.context_length is not None and not model.HasField("context_length"):
        model.context_length = facts.context_length
    if facts.max_output_tokens is not None and not model.HasField("max_output_tokens"):
        model.max_output_tokens = facts.max_output_tokens
    if not model.input_modalities:
        model.input_modalities.extend(facts.input_modalities)
    if not model.output_modalities:
        model.output_modalities.extend(facts.output_modalities)
    if not model.features:
        model.features.extend(sorted(facts.features))
    price = price_of(facts.price)
    if price is not None and not model.HasField("price"):
        model.price.CopyFrom(price_message(price))
    model.facts_date = facts.read.isoformat()


def price_message(price: PriceConfig) -> ModelPrice:
    """A price in the contract's form: decimal numbers as text."""
    return ModelPrice(**{name: str(value) for name, value in price if value is not None})


class OfSnapshots(Mapping[str, Value]):
    """Something by the names of models, in which a snapshot of a known model has what its model has."""

    def __init__(self, values: Mapping[str, Value], known: Iterable[str]) -> None:
        """Takes the values, and which of their names are those of known models."""
        self._values = values
        self._known = frozenset(known)

    def __getitem__(self, name: str) -> Value:
        """Raises KeyError for a model that has none."""
        if name not in self._values:
            model = SNAPSHOT.sub("", name)
            if model not in self._known:
                raise KeyError(name)
            name = model
        return self._values[name]

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a model, which nearly always has one of its own."""
        value = self._values.get(name)
        return super().get(name, default) if value is None else value

    def __iter__(self) -> Iterator[str]:
        """The names, without those of snapshots."""
        return iter(self._values)

    def __len__(self) -> int:
        """How many names there are."""
        return len(self._values)
