"""What JSON can hold of the values that other serializers can store."""

from datetime import date, time
from decimal import Decimal
from math import isfinite
from uuid import UUID


def plain(value, levels=90):
    """The value in strict JSON. Add the types that your sessions hold.

    :raises ValueError: if there is no such thing.
    """
    match value:
        case None | int():
            return value
        case str() if "\0" not in value:
            # which half a surrogate pair does not survive
            return value.encode().decode()
        case float() if isfinite(value):
            return value
        case date() | time():
            return value.isoformat()
        case Decimal() | UUID():
            return str(value)
        case list() | tuple() | set() | frozenset() if levels:
            return [plain(item, levels - 1) for item in value]
        case dict() if levels and all(isinstance(key, str) for key in value):
            return {key: plain(item, levels - 1) for key, item in value.items()}
    raise ValueError(f"a {type(value).__name__} that JSON cannot hold")
