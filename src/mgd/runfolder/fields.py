"""Fields of a record, read from what a CSV or a JSON file has in their place."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any


def get(values: Mapping[str, Any], key: str) -> Any:
    """Returns the value of a key.

    Raises:
        ValueError: If there is none.
    """
    if values.get(key) in (None, ""):
        raise ValueError(f"no '{key}'")
    return values[key]


def number(values: Mapping[str, Any], key: str) -> float:
    """Returns the value of a key as a number.

    Raises:
        ValueError: If it is none.
    """
    value = get(values, key)
    try:
        if isinstance(value, bool):
            raise TypeError("float() would take it")
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"'{key}' is {value!r}, not a number") from error


def whole(values: Mapping[str, Any], key: str) -> int:
    """Returns the value of a key as a whole number.

    Raises:
        ValueError: If it is none.
    """
    value = number(values, key)
    if not value.is_integer():
        raise ValueError(f"'{key}' is {values[key]!r}, not a whole number")
    return int(value)


def _text(values: Mapping[str, Any], key: str) -> str:
    value = get(values, key)
    if not isinstance(value, str):
        raise ValueError(f"'{key}' is {value!r}, not a text")
    return value


def _channels(values: Mapping[str, Any], key: str) -> list[list[int]]:
    groups = get(values, key)
    is_table = isinstance(groups, list) and all(isinstance(group, list) for group in groups)
    if not is_table or not all(type(channel) is int for group in groups for channel in group):
        raise ValueError(f"'{key}' is no list of lists of channels")
    if not groups or len({len(group) for group in groups}) != 1:
        raise ValueError(f"'{key}' has groups of different sizes, or none")
    return [list(group) for group in groups]


def _words(values: Mapping[str, Any], key: str) -> list[str]:
    words = get(values, key)
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"'{key}' is no list of texts")
    return list(words)


def _texts(values: Mapping[str, Any], key: str) -> dict[str, str]:
    texts = get(values, key)
    if not isinstance(texts, dict) or not all(isinstance(each, str) for each in texts.values()):
        raise ValueError(f"'{key}' is no table of texts")
    return dict(texts)


def _or_none(read: Callable[[Mapping[str, Any], str], Any]) -> Callable[..., Any]:
    return lambda values, key: None if values.get(key) in (None, "") else read(values, key)


_READERS: dict[Any, Callable[[Mapping[str, Any], str], Any]] = {
    int: whole,
    float: number,
    str: _text,
    int | None: _or_none(whole),
    float | None: _or_none(number),
    list[list[int]]: _channels,
    list[str]: _words,
    dict[str, str]: _texts,
    str | None: _or_none(_text),
}


def read_fields(record: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of those fields of a record that have one of the types above.

    Raises:
        ValueError: If a needed key is missing or its value is of another kind.
    """
    typed = ((field.name, _READERS.get(field.type)) for field in fields(record))
    return {name: read(values, name) for name, read in typed if read is not None}
