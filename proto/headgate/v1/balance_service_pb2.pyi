import datetime

from google.api import annotations_pb2 as _annotations_pb2
from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from headgate.v1 import balance_pb2 as _balance_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetBalanceRequest(_message.Message):
    __slots__ = ("account_id",)
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    def __init__(self, account_id: _Optional[str] = ...) -> None: ...

class GetBalanceResponse(_message.Message):
    __slots__ = ("balance",)
    BALANCE_FIELD_NUMBER: _ClassVar[int]
    balance: _balance_pb2.Balance
    def __init__(self, balance: _Optional[_Union[_balance_pb2.Balance, _Mapping]] = ...) -> None: ...

class AddCreditRequest(_message.Message):
    __slots__ = ("account_id", "amount_usd", "reference", "expire_time", "note")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_USD_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    amount_usd: str
    reference: str
    expire_time: _timestamp_pb2.Timestamp
    note: str
    def __init__(self, account_id: _Optional[str] = ..., amount_usd: _Optional[str] = ..., reference: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., note: _Optional[str] = ...) -> None: ...

class AddCreditResponse(_message.Message):
    __slots__ = ("credit", "balance_usd", "already_added")
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    BALANCE_USD_FIELD_NUMBER: _ClassVar[int]
    ALREADY_ADDED_FIELD_NUMBER: _ClassVar[int]
    credit: _balance_pb2.Credit
    balance_usd: str
    already_added: bool
    def __init__(self, credit: _Optional[_Union[_balance_pb2.Credit, _Mapping]] = ..., balance_usd: _Optional[str] = ..., already_added: _Optional[bool] = ...) -> None: ...

class ListCreditsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "account_id")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    account_id: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., account_id: _Optional[str] = ...) -> None: ...

class ListCreditsResponse(_message.Message):
    __slots__ = ("credits", "next_page_token")
    CREDITS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    credits: _containers.RepeatedCompositeFieldContainer[_balance_pb2.Credit]
    next_page_token: str
    def __init__(self, credits: _Optional[_Iterable[_Union[_balance_pb2.Credit, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
