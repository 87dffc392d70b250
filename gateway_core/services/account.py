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
    ListWebhooksRequest,
    ListWebhooksResponse,
    RotateHookSecretRequest,
    RotateHookSecretResponse,
    SendTestWebhookRequest,
    SendTestWebhookResponse,
    UpdateAccountRequest,
    UpdateAccountResponse,
)
from headgate.v1.account_service_pb2_grpc import AccountServiceServicer

from gateway_core.call import Caller
from gateway_core.errors import InvalidRequest
from gateway_core.identity.account_webhooks import AccountWebhooks
from gateway_core.identity.accounts import Accounts
from gateway_core.metering.plan import Plans
from gateway_core.services.access import Access
from gateway_core.services.edge import Context
from gateway_core.storage.plan import plan_rows
from gateway_core.storage.store import Store
from gateway_core.webhooks.webhooks import Webhooks


class AccountService(AccountServiceServicer):
    """Keeps the accounts."""

    def __init__(self, store: Store, webhooks: Webhooks, plans: Plans, access: Access) -> None:
        """Takes where accounts are kept, what tells them what happens, the plans they may have, and who may ask."""
        self._accounts = Accounts(store, webhooks)
        self._webhooks = AccountWebhooks(store.database, webhooks)
        self._plans = plans
        self._database = store.database
        self._access = access

    async def CreateAccount(self, request: CreateAccountRequest, context: Context) -> CreateAccountResponse:
        """Makes a sub-account and its first key."""

        async def work(caller: Caller) -> CreateAccountResponse:
            await self._check_plan(request.account.plan)
            return await self._accounts.create(caller, request)

        return await self._access.answered(context, "create_account", work, request)

    async def GetAccount(self, request: GetAccountRequest, context: Context) -> GetAccountResponse:
        """Tells of one account."""

        async def work(caller: Caller) -> GetAccountResponse:
            return GetAccountResponse(account=await self._accounts.get(caller, required(request.id, "id")))

        return await self._access.answered(context, "get_account", work, request)

    async def ListAccounts(self, request: ListAccountsRequest, context: Context) -> ListAccountsResponse:
        """Lists the sub-accounts."""
        return await self._access.answered(
            context, "list_accounts", lambda caller: self._accounts.list(caller, request), request
        )

    async def UpdateAccount(self, request: UpdateAccountRequest, context: Context) -> UpdateAccountResponse:
        """Changes an account."""

        async def work(caller: Caller) -> UpdateAccountResponse:
            required(request.account.id, "account.id")
            if not request.HasField("update_mask") or "plan" in request.update_mask.paths:
                await self._check_plan(request.account.plan)
            return UpdateAccountResponse(account=await self._accounts.update(caller, request))

        return await self._access.answered(context, "update_account", work, request)

    async def DeleteAccount(self, request: DeleteAccountRequest, context: Context) -> DeleteAccountResponse:
        """Deletes an account."""

        async def work(caller: Caller) -> DeleteAccountResponse:
            await self._accounts.delete(caller, required(request.id, "id"))
            return DeleteAccountResponse()

        return await self._access.answered(context, "delete_account", work, request)

    async def RotateHookSecret(self, request: RotateHookSecretRequest, context: Context) -> RotateHookSecretResponse:
        """Makes a new hook secret."""

        async def work(caller: Caller) -> RotateHookSecretResponse:
            return await self._accounts.rotate_hook_secret(caller, required(request.account_id, "account_id"))

        return await self._access.answered(context, "rotate_hook_secret", work, request)

    async def SendTestWebhook(self, request: SendTestWebhookRequest, context: Context) -> SendTestWebhookResponse:
        """Sends a webhook now, and tells what came of it."""

        async def work(caller: Caller) -> SendTestWebhookResponse:
            return await self._webhooks.send_test(caller, required(request.account_id, "account_id"))

        return await self._access.answered(context, "send_test_webhook", work, request)

    async def ListWebhooks(self, request: ListWebhooksRequest, context: Context) -> ListWebhooksResponse:
        """Lists the webhooks of an account."""

        async def work(caller: Caller) -> ListWebhooksResponse:
            required(request.account_id, "account_id")
            return await self._webhooks.list(caller, request)

        return await self._access.answered(context, "list_webhooks", work, request)

    async def _check_plan(self, name: str) -> None:
        """Raises InvalidRequest for the name of a plan that does not exist."""
        if not name or await self._plans.plan(name) is not None:
            return
        # Another process may have made it a moment ago.
        async with self._database.reading() as connection:
            if all(row.name != name for row in await plan_rows(connection)):
                raise InvalidRequest(f"account.plan: there is no plan {name[:64]!r}.", param="account.plan")


def required(value: str, path: str) -> str:
    """The value; raises InvalidRequest where it is empty."""
    if not value:
        raise InvalidRequest(f"{path} is required.", param=path)
    return value
