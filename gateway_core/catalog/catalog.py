"""From a model's name to where it can be asked."""

import difflib
from collections.abc import Iterator, Mapping, Sequence

from headgate.v1.model_pb2 import Model, ModelPrice, ModelTarget

from gateway_core.call import Target
from gateway_core.catalog.gateway_check import Facts
from gateway_core.catalog.listing import Listing
from gateway_core.config import Config, ModelConfig, PriceConfig, ProviderConfig
from gateway_core.errors import ModelNotFound

NAMES_AT_MOST = 1000
"""How many names of the form "provider/model" have their targets kept, so that they need not be made for each call."""

NAME_AT_MOST = 200
"""Characters of such a name."""


class Catalog:
    """The models of the configuration, any "provider/model", and what the providers list."""

    def __init__(self, config: Config, listing: Listing) -> None:
        """Takes the configuration, whose targets name its providers, and the listing of those providers."""
        self._config = config
        self._listing = listing
        self._providers = config.providers
        self._rows = {name: tuple(self._row_targets(row)) for name, row in config.models.items()}
        self._named: dict[str, tuple[Target, ...]] = {}

    def targets(self, name: str) -> tuple[Target, ...]:
        """Where a model can be asked, the first choice first; raises ModelNotFound."""
        known = self._rows.get(name) or self._named.get(name)
        if known is not None:
            return known
        provider_name, slash, model = name.partition("/")
        provider = self._providers.get(provider_name)
        if not (slash and model and provider):
            raise ModelNotFound(self._what_to_do(name), param="model", model=name[:200])
        targets = (
            Target(
                provider=provider_name,
                model=model,
                on_unsupported=provider.on_unsupported or self._config.on_unsupported,
                unsupported=provider.unsupported_parameters,
            ),
        )
        if len(name) <= NAME_AT_MOST and len(self._named) < NAMES_AT_MOST:
            self._named[name] = targets
        return targets

    def is_hosted(self, name: str) -> bool:
        """Whether a name is that of a row of the configuration."""
        return name in self._rows

    def context_length(self, name: str) -> int | None:
        """Most tokens of prompt and answer together. None: not known."""
        row = self._config.models.get(name)
        return row.context_length if row else None

    def facts(self, name: str) -> Facts:
        """What is known of a model; raises ModelNotFound."""
        targets = self.targets(name)
        row = self._config.models.get(name)
        unsupported = frozenset.intersection(*(target.unsupported for target in targets))
        return Facts(
            unsupported,
            row.context_length if row else None,
            row.max_output_tokens if row else None,
        )

    async def models(self, provider: str = "") -> list[Model]:
        """The models of the configuration, then those that the providers list, by provider and name."""
        rows = [self._row_model(name) for name in self._config.models]
        listed = listed_models(await self._listing.models())
        return offered([*rows, *listed], provider)

    async def model(self, name: str) -> Model:
        """One model: a row of the configuration, a listed one, or any of a provider that is there."""
        targets = self.targets(name)
        if name in self._rows:
            return self._row_model(name)
        for model in listed_models(await self._listing.models()):
            if model.id == name:
                return model
        return Model(id=name, owned_by=targets[0].provider, targets=[target_message(targets[0])])

    def _row_targets(self, row: ModelConfig) -> Iterator[Target]:
        for target in row.targets:
            provider = self._providers.get(target.provider) or ProviderConfig(kind="echo")
            yield Target(
                provider=target.provider,
                model=target.model,
                on_unsupported=row.on_unsupported or provider.on_unsupported or self._config.on_unsupported,
                unsupported=provider.unsupported_parameters | row.unsupported_parameters,
            )

    def _row_model(self, name: str) -> Model:
        row = self._config.models[name]
        return Model(
            id=name,
            owned_by=row.targets[0].provider,
            targets=[target_message(target) for target in self._rows[name]],
            price=price_message(row.price) if row.price else None,
            context_length=row.context_length,
            max_output_tokens=row.max_output_tokens,
            input_modalities=row.input_modalities,
            output_modalities=row.output_modalities,
            price_class=row.price_class or "",
        )

    def _what_to_do(self, name: str) -> str:
        shown = name[:200]
        if not name:
            return "No model was named: give the name of a model, or provider/model."
        known = [*self._config.models, *(model.id for model in listed_models(self._listing.known()))]
        close = [name_ for name_ in known if name_.rpartition("/")[2] == name] or difflib.get_close_matches(
            name, known, 3
        )
        if close:
            return f"There is no model {shown!r}. Did you mean {' or '.join(map(repr, close[:3]))}?"
        providers = ", ".join(sorted(self._providers))
        return f"There is no model {shown!r}: give a name that is listed, or provider/model (providers: {providers})."


def listed_models(listing: Mapping[str, Sequence[Model]]) -> Iterator[Model]:
    """What the providers list, under the names that a request gives."""
    for provider in sorted(listing):
        for listed in sorted(listing[provider], key=lambda model: model.id):
            model = Model()
            model.CopyFrom(listed)
            model.id = f"{provider}/{listed.id}"
            del model.targets[:]
            model.targets.add(provider=provider, model=listed.id)
            model.owned_by = provider
            yield model


def offered(models: Sequence[Model], provider: str) -> list[Model]:
    """The models that go to a provider; empty: all."""
    return [model for model in models if not provider or provider in owners(model)]


def owners(model: Model) -> set[str]:
    """The providers that a model goes to."""
    return {target.provider for target in model.targets}


def target_message(target: Target) -> ModelTarget:
    """A target in the contract's form."""
    return ModelTarget(provider=target.provider, model=target.model)


def price_message(price: PriceConfig) -> ModelPrice:
    """A price in the contract's form: decimal numbers as text."""
    return ModelPrice(**{name: str(value) for name, value in price if value is not None})
