"""What the processes of several machines share by Redis beside limits: circuits, and the chunks of streams."""

from functools import partial

from gateway_core.config import Config
from gateway_core.redis_store.circuits import CircuitStore
from gateway_core.redis_store.link import Away
from gateway_core.redis_store.stream_copies import CopyStore
from gateway_core.resume.copies import Copies
from gateway_core.resume.streams import Streams
from gateway_core.routing.board import Board
from gateway_core.routing.sharing import SharedCircuits
from gateway_core.services.copies import CopiedStreams
from gateway_core.services.edge import answer_pairs
from gateway_core.storage.errors import StorageUnavailable
from gateway_core.storage.ledger import root_account_id
from gateway_core.storage.store import Store
from gateway_core.telemetry.metrics import Metrics


class Replicas:
    """Owns what shares. Where the configuration names no Redis there is nothing, and it costs nothing."""

    def __init__(self, config: Config, store: Store | None, board: Board, streams: Streams, metrics: Metrics) -> None:
        """Takes what is shared; raises StorageError where the address is none."""
        self._circuits: SharedCircuits | None = None
        self._copies: Copies | None = None
        self.copied: CopiedStreams | None = None
        """What other processes have copied of their streams. None: nothing is shared."""
        url = config.redis_url
        if url is None or store is None:
            return
        process_id = store.database.process_id
        if config.routing.circuit.shared:
            circuits = CircuitStore(url, process_id, partial(deployment_of, store))
            self._circuits = SharedCircuits(board, circuits, process_id)
            metrics.tell_redis("circuits", lambda: circuits.link.is_up)
        if config.detach.shared and config.detach.calls and config.detach.at_most_seconds:
            copies = CopyStore(url)
            self._copies = streams.copies = Copies(copies, store.box, answer_pairs, config.detach.calls)
            self.copied = CopiedStreams(self._copies)
            metrics.tell_redis("streams", lambda: copies.link.is_up)

    def start(self) -> None:
        """Begins; a server that does not answer keeps no process from starting."""
        if self._circuits is not None:
            self._circuits.start()
        if self._copies is not None:
            self._copies.start()

    async def close(self) -> None:
        """Ends it; the streams have ended before."""
        if self._circuits is not None:
            await self._circuits.close()
        if self._copies is not None:
            await self._copies.close()


async def deployment_of(store: Store) -> str:
    """The mark of those that share a database: its operator's account. Raises Away where that cannot be read yet."""
    try:
        async with store.database.reading() as connection:
            found = await connection.run_sync(root_account_id)
    except StorageUnavailable:
        found = None
    if found is None:
        raise Away
    return found
