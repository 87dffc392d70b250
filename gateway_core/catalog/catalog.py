"""From a model's name to where it can be asked."""

import difflib
from collections.abc import Iterator, Mapping, Sequence

from headgate.v1.model_pb2 import Model, ModelTarget

from gateway_core.call import Target
from gateway_core.catalog.gateway_check import Facts
from gateway_core.catalog.known import Known, price_message, set_facts
from gateway_core.catalog.listing import Listing
from gateway_core.config import Config, ModelConfig, ProviderConfig
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
        self._known = Known(config)
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
        targets = (self._target(provider_name, model),)
        if len(name) <= NAME_AT_MOST and len(self._named) < NAMES_AT_MOST:
            self._named[name] = targets
        return targets

    def is_hosted(self, name: str) -> bool:
        """Whether a name is that of a row of the configuration."""
        return name in self._rows

    def context_length(self, name: str) -> int | None:
        """Most tokens of prompt and answer together. None: not known."""
        row = self._config.models.get(name)
        if row is not None:
            return row.context_length
        facts = self._known.facts(*name.partition("/")[::2])
        return facts.context_length if facts else None

    def facts(self, name: str) -> Facts:
        """What is known of a model; raises ModelNotFound."""
        targets = self.targets(name)
        unsupported = frozenset.intersection(*(target.unsupported for target in targets))
        row = self._config.models.get(name) or self._known.facts(targets[0].provider, targets[0].model)
        return Facts(
            unsupported,
            row.context_length if row else None,
            row.max_output_tokens if row else None,
        )

    async def models(self, provider: str = "") -> list[Model]:
        """The models of the configuration, then those that the providers list, by provider and name."""
        rows = [self._row_model(name) for name in self._config.models]
        listed = map(self._with_facts, listed_models(await self._listing.models()))
        return offered([*rows, *listed], provider)

    async def model(self, name: str) -> Model:
        """One model: a row of the configuration, a listed one, or any of a provider that is there."""
        targets = self.targets(name)
        if name in self._rows:
            return self._row_model(name)
        for model in listed_models(await self._listing.models()):
            if model.id == name:
                return self._with_facts(model)
        return self._with_facts(Model(id=name, owned_by=targets[0].provider, targets=[target_message(targets[0])]))

    def _with_facts(self, model: Model) -> Model:
        """A model of a provider's, with what is known of it."""
        (target,) = model.targets
        facts = self._known.facts(target.provider, target.model)
        if facts is not None:
            set_facts(model, facts)
        return model

    def _row_targets(self, row: ModelConfig) -> Iterator[Target]:
        for target in row.targets:
            yield self._target(target.provider, target.model, row)

    def _target(self, provider_name: str, model: str, row: ModelConfig | None = None) -> Target:
        """A target, with what its provider, its row and the table of known models say of it."""
        provider = self._providers.get(provider_name) or ProviderConfig(kind="echo")
        facts = self._known.facts(provider_name, model)
        unsupported = facts.unsupported_parameters if facts else frozenset()
        while_reasoning = facts.unsupported_while_reasoning if facts else frozenset()
        features = frozenset(map(str, facts.features)) if facts else None
        if row is not None:
            unsupported = (unsupported - row.supported_parameters) | row.unsupported_parameters
            while_reasoning -= row.supported_parameters
            features = frozenset(map(str, row.features)) if row.features is not None else features
        return Target(
            provider=provider_name,
            model=model,
            on_unsupported=(row and row.on_unsupported) or provider.on_unsupported or self._config.on_unsupported,
            unsupported=provider.unsupported_parameters | unsupported,
            unsupported_while_reasoning=while_reasoning,
            features=features,
            max_output_tokens=(row and row.max_output_tokens) or (facts and facts.max_output_tokens) or None,
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
            features=sorted(row.features or ()),
            facts_date=self._facts_date(row),
        )

    def _facts_date(self, row: ModelConfig) -> str:
        """The day of the oldest facts that are shipped of a row's targets; empty: there are none."""
        facts = (self._known.facts(target.provider, target.model) for target in row.targets)
        return min((each.read.isoformat() for each in facts if each is not None), default="")

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
