"""Arrow rows → Python values, where Arrow's own conversion depends on what is installed or gives up on a whole batch.

`to_pylist` raises for a timestamp outside of the years 1 to 9999 and for a time zone that this machine does not know, and without pandas for
nanoseconds; with pandas it returns other types. None of this is a reason to lose a document, so times are read from the integers that
Arrow stores: as datetime, date, time or timedelta where these can hold them (as `to_pylist` does), as a string where there are
nanoseconds, and as None where the value is no time that a calendar has. A zone that is not known is written as UTC, in which Arrow keeps it.
"""

from __future__ import annotations

import re
import zoneinfo
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any

import pyarrow as pa

_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_TIMES = (pa.TimestampScalar, pa.Date32Scalar, pa.Date64Scalar, pa.Time32Scalar, pa.Time64Scalar, pa.DurationScalar)
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)")


def rows_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the rows of `batch` as dicts. Raises ValueError for strings that are not UTF-8."""
    columns = [[_value(item) for item in column] if _has_times(column.type) else column.to_pylist() for column in batch.columns]
    return [dict(zip(batch.schema.names, row, strict=True)) for row in zip(*columns, strict=True)]


def _has_times(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _has_times(kind.value_type)
    if pa.types.is_temporal(kind):
        return not pa.types.is_interval(kind)
    return any(_has_times(kind.field(i).type) for i in range(kind.num_fields))


def _value(item: Any) -> Any:
    """Return an Arrow scalar as `as_py` would, but for times."""
    if not item.is_valid:
        return None
    if isinstance(item, _TIMES):
        return _time(item.value, item.type)
    if isinstance(item, pa.DictionaryScalar):
        return _value(item.value)
    if isinstance(item, pa.StructScalar):
        return {item.type.field(i).name: _value(item[i]) for i in range(item.type.num_fields)}
    if isinstance(item, pa.MapScalar):
        return [(_value(pair["key"]), _value(pair["value"])) for pair in item.values]
    if isinstance(item, pa.ListScalar | pa.LargeListScalar | pa.FixedSizeListScalar):
        return [_value(one) for one in item.values]
    return item.as_py()


def _time(value: int, kind: pa.DataType) -> date | time | timedelta | str | None:
    """Return what Arrow stores as `value`; None where the calendar ends, or the day."""
    try:
        if pa.types.is_date(kind):
            return date(1970, 1, 1) + timedelta(days=value if pa.types.is_date32(kind) else value // 86_400_000)
        microseconds, nanoseconds = divmod(value * _NANOSECONDS[kind.unit], 1000)
        span = timedelta(microseconds=microseconds)
        if pa.types.is_duration(kind):
            return f"{span - timedelta(microseconds=span.microseconds)}.{span.microseconds:06d}{nanoseconds:03d}" if nanoseconds else span
        if pa.types.is_time(kind):
            found = (datetime.min + span).time() if timedelta(0) <= span < timedelta(days=1) else None
            return f"{found.isoformat('microseconds')}{nanoseconds:03d}" if found and nanoseconds else found
        moment = datetime(1970, 1, 1) + span
        if kind.tz:
            moment = moment.replace(tzinfo=UTC).astimezone(_zone(kind.tz))
    except (OverflowError, ValueError):
        return None
    if not nanoseconds:
        return moment
    local = moment.replace(tzinfo=None)
    return f"{local.isoformat(timespec='microseconds')}{nanoseconds:03d}{moment.isoformat().removeprefix(local.isoformat())}"


@lru_cache
def _zone(name: str) -> tzinfo:
    offset = _OFFSET.fullmatch(name)
    if offset:
        span = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        return timezone(-span if offset[1] == "-" else span)
    try:
        return zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return UTC
