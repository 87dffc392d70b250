"""KeyService: the keys of the caller's account and of those below it."""

from headgate.v1.key_service_pb2 import (
    CreateKeyRequest,
    CreateKeyResponse,
    DeleteKeyRequest,
    DeleteKeyResponse,
    GetKeyRequest,
    GetKeyResponse,
    ListKeysRequest,
    ListKeysResponse,
    RotateKeyRequest,
    RotateKeyResponse,
    UpdateKeyRequest,
    UpdateKeyResponse,
)
from headgate.v1.key_service_pb2_grpc import KeyServiceServicer

from gateway_core.call import Caller
from gateway_core.identity.keys import Keys
from gateway_core.services.access import Access
from gateway_core.services.edge import Context


class KeyService(KeyServiceServicer):
    """Keeps the keys."""

    def __init__(self, keys: Keys, access: Access) -> None:
        """Takes the keys, and who may ask."""
        self._keys = keys
        self._access = access

    async def CreateKey(self, request: CreateKeyRequest, context: Context) -> CreateKeyResponse:
        """Makes a key."""
        return await self._access.answered(
            context, "create_key", lambda caller: self._keys.create(caller, request), request
        )

    async def GetKey(self, request: GetKeyRequest, context: Context) -> GetKeyResponse:
        """Tells of one key."""

        async def work(caller: Caller) -> GetKeyResponse:
            return GetKeyResponse(key=await self._keys.get(caller, request.id))

        return await self._access.answered(context, "get_key", work, request)

    async def ListKeys(self, request: ListKeysRequest, context: Context) -> ListKeysResponse:
        """Lists the keys of an account."""
        return await self._access.answered(
            context, "list_keys", lambda caller: self._keys.list(caller, request), request
        )

    async def UpdateKey(self, request: UpdateKeyRequest, context: Context) -> UpdateKeyResponse:
        """Changes a key."""

        async def work(caller: Caller) -> UpdateKeyResponse:
            return UpdateKeyResponse(key=await self._keys.update(caller, request))

        return await self._access.answered(context, "update_key", work, request)

    async def RotateKey(self, request: RotateKeyRequest, context: Context) -> RotateKeyResponse:
        """Gives a key a new secret."""
        return await self._access.answered(
            context, "rotate_key", lambda caller: self._keys.rotate(caller, request), request
        )

    async def DeleteKey(self, request: DeleteKeyRequest, context: Context) -> DeleteKeyResponse:
        """Deletes a key."""

        async def work(caller: Caller) -> DeleteKeyResponse:
            await self._keys.delete(caller, request.id)
            return DeleteKeyResponse()

        return await self._access.answered(context, "delete_key", work, request)
