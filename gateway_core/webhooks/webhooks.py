"""All that webhooks are made of, for one process: noticed, put into the outbox, sent."""

from collections.abc import Callable

from gateway_core.config import Config
from gateway_core.errors import Conflict, InvalidRequest
from gateway_core.storage.store import Store
from gateway_core.webhooks import endpoint
from gateway_core.webhooks.courier import Courier
from gateway_core.webhooks.crossing import Crossings
from gateway_core.webhooks.outbox import Outbox
from gateway_core.webhooks.sender import Sender


class Webhooks:
    """Of a store. Nothing is sent before `open`; what is announced before or after waits."""

    def __init__(self, store: Store, config: Config, count: Callable[[str], None] | None = None) -> None:
        """Takes what counts how attempts end: "delivered", "retried", "failed"."""
        self.database = store.database
        """Where they are kept."""
        self._is_enabled = config.webhooks.enabled
        self._networks = config.private_endpoint_networks
        self.outbox = Outbox(store.database, is_enabled=self._is_enabled)
        self.crossings = Crossings(store.database, self.outbox, is_enabled=self._is_enabled)
        self.sender = Sender(config, store.box)
        self._courier = Courier(store.database, self.sender, config.webhooks, count)

    def open(self) -> None:
        """Begins to notice and to send."""
        if self._is_enabled:
            self.crossings.open()
            self._courier.open()

    async def close(self) -> None:
        """Ends that; what is not sent is kept."""
        await self.crossings.close()
        await self._courier.close()

    def url(self, value: str, path: str) -> str | None:
        """A URL that an account gives; None where it is empty. Raises InvalidRequest, which names the field."""
        if value and not self._is_enabled:
            raise InvalidRequest(f"{path}: the operator has turned webhooks off.", param=path)
        return endpoint.checked(value, self._networks, path)

    def check_enabled(self) -> None:
        """Raises Conflict where nothing is sent."""
        if not self._is_enabled:
            raise Conflict("The operator has turned webhooks off.", resource="webhook", id="")
