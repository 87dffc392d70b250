"""AccountService: the accounts below the caller's."""

from headgate.v1.account_service_pb2 import (
    CreateAccountRequest,
    CreateAccountResponse,
    DeleteAccountRequest,
    DeleteAccountResponse,
    GetAccountRequest,
    GetAccountResponse,
    ListAccountsRequest,
    ListAccountsResponse,
    RotateHookSecretRequest,
    RotateHookSecretResponse,
    UpdateAccountRequest,
    UpdateAccountResponse,
)
from headgate.v1.account_service_pb2_grpc import AccountServiceServicer

from gateway_core.call import Caller
from gateway_core.errors import InvalidRequest
from gateway_core.identity.accounts import Accounts
from gateway_core.services.access import Access
from gateway_core.services.edge import Context


class AccountService(AccountServiceServicer):
    """Keeps the accounts."""

    def __init__(self, accounts: Accounts, access: Access) -> None:
        """Takes the accounts, and who may ask."""
        self._accounts = accounts
        self._access = access

    async def CreateAccount(self, request: CreateAccountRequest, context: Context) -> CreateAccountResponse:
        """Makes a sub-account and its first key."""
        return await self._access.answered(
            context, "create_account", lambda caller: self._accounts.create(caller, request)
        )

    async def GetAccount(self, request: GetAccountRequest, context: Context) -> GetAccountResponse:
        """Tells of one account."""

        async def work(caller: Caller) -> GetAccountResponse:
            return GetAccountResponse(account=await self._accounts.get(caller, required(request.id, "id")))

        return await self._access.answered(context, "get_account", work)

    async def ListAccounts(self, request: ListAccountsRequest, context: Context) -> ListAccountsResponse:
        """Lists the sub-accounts."""
        return await self._access.answered(
            context, "list_accounts", lambda caller: self._accounts.list(caller, request)
        )

    async def UpdateAccount(self, request: UpdateAccountRequest, context: Context) -> UpdateAccountResponse:
        """Changes an account."""

        async def work(caller: Caller) -> UpdateAccountResponse:
            required(request.account.id, "account.id")
            return UpdateAccountResponse(account=await self._accounts.update(caller, request))

        return await self._access.answered(context, "update_account", work)

    async def DeleteAccount(self, request: DeleteAccountRequest, context: Context) -> DeleteAccountResponse:
        """Deletes an account."""

        async def work(caller: Caller) -> DeleteAccountResponse:
            await self._accounts.delete(caller, required(request.id, "id"))
            return DeleteAccountResponse()

        return await self._access.answered(context, "delete_account", work)

    async def RotateHookSecret(self, request: RotateHookSecretRequest, context: Context) -> RotateHookSecretResponse:
        """Makes a new hook secret."""

        async def work(caller: Caller) -> RotateHookSecretResponse:
            return await self._accounts.rotate_hook_secret(caller, required(request.account_id, "account_id"))

        return await self._access.answered(context, "rotate_hook_secret", work)


def required(value: str, path: str) -> str:
    """The value; raises InvalidRequest where it is empty."""
    if not value:
        raise InvalidRequest(f"{path} is required.", param=path)
    return value
