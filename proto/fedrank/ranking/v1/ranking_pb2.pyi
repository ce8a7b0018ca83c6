import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Surface(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SURFACE_UNSPECIFIED: _ClassVar[Surface]
    SURFACE_HOME: _ClassVar[Surface]
    SURFACE_SEARCH: _ClassVar[Surface]
    SURFACE_DETAIL: _ClassVar[Surface]
    SURFACE_CART: _ClassVar[Surface]
    SURFACE_NEW_ARRIVALS: _ClassVar[Surface]
    SURFACE_PROMOTION: _ClassVar[Surface]

class EventKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVENT_KIND_UNSPECIFIED: _ClassVar[EventKind]
    EVENT_KIND_VIEW: _ClassVar[EventKind]
    EVENT_KIND_ADD_TO_CART: _ClassVar[EventKind]
    EVENT_KIND_PURCHASE: _ClassVar[EventKind]
    EVENT_KIND_SEARCH: _ClassVar[EventKind]
    EVENT_KIND_RATING: _ClassVar[EventKind]
    EVENT_KIND_DISMISS: _ClassVar[EventKind]
    EVENT_KIND_RETURN: _ClassVar[EventKind]

class ProfileSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROFILE_SOURCE_UNSPECIFIED: _ClassVar[ProfileSource]
    PROFILE_SOURCE_COLD_START: _ClassVar[ProfileSource]
    PROFILE_SOURCE_USER_EMBEDDING: _ClassVar[ProfileSource]
    PROFILE_SOURCE_HISTORY: _ClassVar[ProfileSource]
    PROFILE_SOURCE_STORED: _ClassVar[ProfileSource]
    PROFILE_SOURCE_NOT_USED: _ClassVar[ProfileSource]
    PROFILE_SOURCE_SESSION: _ClassVar[ProfileSource]
    PROFILE_SOURCE_SEGMENT: _ClassVar[ProfileSource]

class ReasonKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_KIND_UNSPECIFIED: _ClassVar[ReasonKind]
    REASON_KIND_HISTORY: _ClassVar[ReasonKind]
    REASON_KIND_PROFILE: _ClassVar[ReasonKind]
    REASON_KIND_POPULAR: _ClassVar[ReasonKind]
    REASON_KIND_QUERY: _ClassVar[ReasonKind]
    REASON_KIND_SIMILAR: _ClassVar[ReasonKind]
    REASON_KIND_TOGETHER: _ClassVar[ReasonKind]
    REASON_KIND_NEW: _ClassVar[ReasonKind]
    REASON_KIND_POPULAR_CATEGORY: _ClassVar[ReasonKind]
    REASON_KIND_SEGMENT: _ClassVar[ReasonKind]
    REASON_KIND_MEANING: _ClassVar[ReasonKind]
    REASON_KIND_PROMOTION: _ClassVar[ReasonKind]
    REASON_KIND_EXPLORATION: _ClassVar[ReasonKind]
SURFACE_UNSPECIFIED: Surface
SURFACE_HOME: Surface
SURFACE_SEARCH: Surface
SURFACE_DETAIL: Surface
SURFACE_CART: Surface
SURFACE_NEW_ARRIVALS: Surface
SURFACE_PROMOTION: Surface
EVENT_KIND_UNSPECIFIED: EventKind
EVENT_KIND_VIEW: EventKind
EVENT_KIND_ADD_TO_CART: EventKind
EVENT_KIND_PURCHASE: EventKind
EVENT_KIND_SEARCH: EventKind
EVENT_KIND_RATING: EventKind
EVENT_KIND_DISMISS: EventKind
EVENT_KIND_RETURN: EventKind
PROFILE_SOURCE_UNSPECIFIED: ProfileSource
PROFILE_SOURCE_COLD_START: ProfileSource
PROFILE_SOURCE_USER_EMBEDDING: ProfileSource
PROFILE_SOURCE_HISTORY: ProfileSource
PROFILE_SOURCE_STORED: ProfileSource
PROFILE_SOURCE_NOT_USED: ProfileSource
PROFILE_SOURCE_SESSION: ProfileSource
PROFILE_SOURCE_SEGMENT: ProfileSource
REASON_KIND_UNSPECIFIED: ReasonKind
REASON_KIND_HISTORY: ReasonKind
REASON_KIND_PROFILE: ReasonKind
REASON_KIND_POPULAR: ReasonKind
REASON_KIND_QUERY: ReasonKind
REASON_KIND_SIMILAR: ReasonKind
REASON_KIND_TOGETHER: ReasonKind
REASON_KIND_NEW: ReasonKind
REASON_KIND_POPULAR_CATEGORY: ReasonKind
REASON_KIND_SEGMENT: ReasonKind
REASON_KIND_MEANING: ReasonKind
REASON_KIND_PROMOTION: ReasonKind
REASON_KIND_EXPLORATION: ReasonKind

class HistoryEvent(_message.Message):
    __slots__ = ("item_id", "kind", "time")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    kind: EventKind
    time: _timestamp_pb2.Timestamp
    def __init__(self, item_id: _Optional[str] = ..., kind: _Optional[_Union[EventKind, str]] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class History(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[HistoryEvent]
    def __init__(self, events: _Optional[_Iterable[_Union[HistoryEvent, _Mapping]]] = ...) -> None: ...

class UserEmbedding(_message.Message):
    __slots__ = ("values", "model_version")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    model_version: str
    def __init__(self, values: _Optional[_Iterable[float]] = ..., model_version: _Optional[str] = ...) -> None: ...

class Context(_message.Message):
    __slots__ = ("timestamp", "segment")
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    timestamp: _timestamp_pb2.Timestamp
    segment: int
    def __init__(self, timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., segment: _Optional[int] = ...) -> None: ...

class RankRequest(_message.Message):
    __slots__ = ("request_id", "surface", "k", "user_embedding", "history", "shopper", "context", "query", "item_id", "exclude_seen", "session", "hidden_item_ids", "categories", "merchant_ids", "without_reasons")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    USER_EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    SHOPPER_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_SEEN_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    MERCHANT_IDS_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_REASONS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    surface: Surface
    k: int
    user_embedding: UserEmbedding
    history: History
    shopper: str
    context: Context
    query: str
    item_id: str
    exclude_seen: bool
    session: History
    hidden_item_ids: _containers.RepeatedScalarFieldContainer[str]
    categories: _containers.RepeatedScalarFieldContainer[str]
    merchant_ids: _containers.RepeatedScalarFieldContainer[str]
    without_reasons: bool
    def __init__(self, request_id: _Optional[str] = ..., surface: _Optional[_Union[Surface, str]] = ..., k: _Optional[int] = ..., user_embedding: _Optional[_Union[UserEmbedding, _Mapping]] = ..., history: _Optional[_Union[History, _Mapping]] = ..., shopper: _Optional[str] = ..., context: _Optional[_Union[Context, _Mapping]] = ..., query: _Optional[str] = ..., item_id: _Optional[str] = ..., exclude_seen: _Optional[bool] = ..., session: _Optional[_Union[History, _Mapping]] = ..., hidden_item_ids: _Optional[_Iterable[str]] = ..., categories: _Optional[_Iterable[str]] = ..., merchant_ids: _Optional[_Iterable[str]] = ..., without_reasons: _Optional[bool] = ...) -> None: ...

class Reason(_message.Message):
    __slots__ = ("kind", "text", "item_id")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    kind: ReasonKind
    text: str
    item_id: str
    def __init__(self, kind: _Optional[_Union[ReasonKind, str]] = ..., text: _Optional[str] = ..., item_id: _Optional[str] = ...) -> None: ...

class Promotion(_message.Message):
    __slots__ = ("promotion_id", "kind", "text", "discount", "least_quantity", "ends")
    PROMOTION_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DISCOUNT_FIELD_NUMBER: _ClassVar[int]
    LEAST_QUANTITY_FIELD_NUMBER: _ClassVar[int]
    ENDS_FIELD_NUMBER: _ClassVar[int]
    promotion_id: str
    kind: str
    text: str
    discount: float
    least_quantity: int
    ends: _timestamp_pb2.Timestamp
    def __init__(self, promotion_id: _Optional[str] = ..., kind: _Optional[str] = ..., text: _Optional[str] = ..., discount: _Optional[float] = ..., least_quantity: _Optional[int] = ..., ends: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RankedItem(_message.Message):
    __slots__ = ("rank", "item_id", "merchant_id", "title", "reason", "score", "propensity", "promotion")
    RANK_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    MERCHANT_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    PROPENSITY_FIELD_NUMBER: _ClassVar[int]
    PROMOTION_FIELD_NUMBER: _ClassVar[int]
    rank: int
    item_id: str
    merchant_id: str
    title: str
    reason: Reason
    score: float
    propensity: float
    promotion: Promotion
    def __init__(self, rank: _Optional[int] = ..., item_id: _Optional[str] = ..., merchant_id: _Optional[str] = ..., title: _Optional[str] = ..., reason: _Optional[_Union[Reason, _Mapping]] = ..., score: _Optional[float] = ..., propensity: _Optional[float] = ..., promotion: _Optional[_Union[Promotion, _Mapping]] = ...) -> None: ...

class PrivacyStatement(_message.Message):
    __slots__ = ("epsilon", "delta", "unit")
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    epsilon: float
    delta: float
    unit: str
    def __init__(self, epsilon: _Optional[float] = ..., delta: _Optional[float] = ..., unit: _Optional[str] = ...) -> None: ...

class RankResponse(_message.Message):
    __slots__ = ("ranking_id", "model_version", "items", "profile_source", "cold_start", "unknown_history_items", "dropped_history_events", "notices", "privacy")
    RANKING_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    PROFILE_SOURCE_FIELD_NUMBER: _ClassVar[int]
    COLD_START_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_HISTORY_ITEMS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_HISTORY_EVENTS_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    PRIVACY_FIELD_NUMBER: _ClassVar[int]
    ranking_id: str
    model_version: str
    items: _containers.RepeatedCompositeFieldContainer[RankedItem]
    profile_source: ProfileSource
    cold_start: bool
    unknown_history_items: int
    dropped_history_events: int
    notices: _containers.RepeatedScalarFieldContainer[str]
    privacy: PrivacyStatement
    def __init__(self, ranking_id: _Optional[str] = ..., model_version: _Optional[str] = ..., items: _Optional[_Iterable[_Union[RankedItem, _Mapping]]] = ..., profile_source: _Optional[_Union[ProfileSource, str]] = ..., cold_start: _Optional[bool] = ..., unknown_history_items: _Optional[int] = ..., dropped_history_events: _Optional[int] = ..., notices: _Optional[_Iterable[str]] = ..., privacy: _Optional[_Union[PrivacyStatement, _Mapping]] = ...) -> None: ...

class Impression(_message.Message):
    __slots__ = ("surface", "rank", "propensity")
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    PROPENSITY_FIELD_NUMBER: _ClassVar[int]
    surface: Surface
    rank: int
    propensity: float
    def __init__(self, surface: _Optional[_Union[Surface, str]] = ..., rank: _Optional[int] = ..., propensity: _Optional[float] = ...) -> None: ...

class Interaction(_message.Message):
    __slots__ = ("kind", "quantity", "price")
    KIND_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    kind: EventKind
    quantity: float
    price: float
    def __init__(self, kind: _Optional[_Union[EventKind, str]] = ..., quantity: _Optional[float] = ..., price: _Optional[float] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("event_id", "ranking_id", "shopper", "item_id", "timestamp", "impression", "interaction")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    RANKING_ID_FIELD_NUMBER: _ClassVar[int]
    SHOPPER_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    IMPRESSION_FIELD_NUMBER: _ClassVar[int]
    INTERACTION_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    ranking_id: str
    shopper: str
    item_id: str
    timestamp: _timestamp_pb2.Timestamp
    impression: Impression
    interaction: Interaction
    def __init__(self, event_id: _Optional[str] = ..., ranking_id: _Optional[str] = ..., shopper: _Optional[str] = ..., item_id: _Optional[str] = ..., timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., impression: _Optional[_Union[Impression, _Mapping]] = ..., interaction: _Optional[_Union[Interaction, _Mapping]] = ...) -> None: ...

class RecordEventsRequest(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class RecordEventsResponse(_message.Message):
    __slots__ = ("acknowledged", "duplicates", "unknown_items")
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_ITEMS_FIELD_NUMBER: _ClassVar[int]
    acknowledged: int
    duplicates: int
    unknown_items: int
    def __init__(self, acknowledged: _Optional[int] = ..., duplicates: _Optional[int] = ..., unknown_items: _Optional[int] = ...) -> None: ...
