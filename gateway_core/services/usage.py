"""UsageService: what was used, and what it cost."""

from collections.abc import AsyncGenerator

from google.api.httpbody_pb2 import HttpBody
from headgate.v1.usage_service_pb2 import (
    ExportUsageRecordsRequest,
    ExportUsageRecordsResponse,
    ListUsageRecordsRequest,
    ListUsageRecordsResponse,
    SummarizeUsageRequest,
    SummarizeUsageResponse,
)
from headgate.v1.usage_service_pb2_grpc import UsageServiceServicer

from gateway_core.call import Caller
from gateway_core.metering.usage_book import UsageBook
from gateway_core.services.access import Access
from gateway_core.services.edge import Context, Rpc
from gateway_core.services.plain_text import check_texts

CSV = "text/csv; charset=utf-8"


class UsageService(UsageServiceServicer):
    """Tells what was used."""

    def __init__(self, usage: UsageBook, access: Access) -> None:
        """Takes what was used, and who may ask."""
        self._usage = usage
        self._access = access

    async def ListUsageRecords(self, request: ListUsageRecordsRequest, context: Context) -> ListUsageRecordsResponse:
        """Lists the records of calls."""

        async def work(caller: Caller) -> ListUsageRecordsResponse:
            records, token = await self._usage.records(caller, request)
            return ListUsageRecordsResponse(records=records, next_page_token=token)

        return await self._access.answered(context, "list_usage_records", work, request)

    async def SummarizeUsage(self, request: SummarizeUsageRequest, context: Context) -> SummarizeUsageResponse:
        """Adds the records up."""

        async def work(caller: Caller) -> SummarizeUsageResponse:
            found = await self._usage.summaries(caller, request)
            return SummarizeUsageResponse(
                summaries=found.summaries, total=found.total, next_page_token=found.next_page_token
            )

        return await self._access.answered(context, "summarize_usage", work, request)

    async def ExportUsageRecords(
        self, request: ExportUsageRecordsRequest, context: Context
    ) -> AsyncGenerator[ExportUsageRecordsResponse, None]:
        """Tells the records as one CSV document, in pieces."""
        rpc = Rpc(context, "export_usage_records")
        try:
            caller = await self._access.private(context)
            check_texts(request)
            content_type = CSV
            async for piece in self._usage.exported(caller, request):
                yield ExportUsageRecordsResponse(body=HttpBody(content_type=content_type, data=piece))
                content_type = ""
        except Exception as error:
            await rpc.failed(error)
        rpc.succeeded()
