"""Make a dataclass of plain values (YAML's): checks keys, types and ranges against its annotations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import suggestion

REST = "rest"  # metadata of a field that takes the keys that no other field has
_NUMERALS = {2: "two", 3: "three", 4: "four"}
_KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "choose true or false",
    NoneType: "null",
}
T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, for `Annotated[float, Range(0, 1)]`."""

    low: float
    high: float = math.inf
    low_excluded: bool = False
    high_excluded: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.low_excluded else value >= self.low
        return above and (value < self.high if self.high_excluded else value <= self.high)

    def describe(self, kind: type) -> str:
        """`a whole number of at least 1`, `a number from 0 to 1`."""
        if kind is int and self.high == math.inf:
            return f"a whole number of at least {self.low:g}"
        text = f"{_KINDS[kind]} {'above' if self.low_excluded else 'from'} {self.low:g}"
        if self.high == math.inf:
            return text
        return f"{text} to {'below ' if self.high_excluded else ''}{self.high:g}"


def build(cls: Callable[..., T], values: Any, where: str) -> T:
    """A `cls` (a dataclass) of a mapping; `where` is its dotted name, for messages.

    Raises UserError, one line, for an unknown key, a key without a value, or a value of another type.
    """
    known, rest = _fields(cls)
    if not isinstance(values, Mapping):
        raise UserError(f"{where}={values}: a mapping of {', '.join(known)}")
    prefix = f"{where}." if where else ""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if key in known:
            found[key] = _value(known[key][1], value, f"{prefix}{key}")
        elif rest:
            found.setdefault(rest, {})[key] = value
        else:
            choices = suggestion(f"{prefix}{key}", [f"{prefix}{name}" for name in known])
            raise UserError(f"unknown key '{prefix}{key}': {choices}")
    for name, (one, _) in known.items():
        if name not in found and one.default is MISSING and one.default_factory is MISSING:
            raise UserError(f"{prefix}{name} is missing in the parameters")
    return cls(**found)


@cache
def _fields(cls: Any) -> tuple[dict[str, tuple[Field[Any], Any]], str]:
    """Name → (field, type) of a dataclass, and the name of the field that takes all other keys."""
    hints = get_type_hints(cls, include_extras=True)
    every = {one.name: (one, hints[one.name]) for one in fields(cls)}
    rest = [name for name, (one, _) in every.items() if one.metadata.get(REST)]
    return {name: one for name, one in every.items() if name not in rest}, "".join(rest)


def _value(kind: Any, value: Any, where: str) -> Any:
    """`value` as the type `kind`: a list as a tuple, a mapping as a dataclass. Raises UserError."""
    origin, arguments = get_origin(kind), get_args(kind)
    if value == "???":
        raise UserError(f"{where} has no value: set {where}=…")
    if origin in (Union, UnionType) and value is not None:
        containers = [
            one for one in arguments if get_origin(one) in (tuple, Mapping) or is_dataclass(one)
        ]
        if containers and not any(_matches(one, value) for one in arguments):
            return _value(containers[0], value, where)
    if isinstance(kind, type) and is_dataclass(kind):
        return build(kind, value, where)
    if origin is Mapping and isinstance(value, Mapping):
        return {str(key): _value(arguments[1], v, f"{where}.{key}") for key, v in value.items()}
    if origin is tuple and isinstance(value, list | tuple):
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) == len(value):
            items = zip(kinds, value, range(len(value)), strict=True)
            return tuple(_value(one, item, f"{where}[{i}]") for one, item, i in items)
    if origin is Literal and value not in arguments:
        raise UserError(f"{where}={value}: {suggestion(str(value), arguments)}")
    if not _matches(kind, value):
        raise UserError(f"{where}={value}: {_describe(kind)}")
    return value


def _matches(kind: Any, value: Any) -> bool:
    """Is a single value (no list or mapping) of a type, and in its range?"""
    if kind is Any:
        return True
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_matches(one, value) for one in arguments)
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if hasattr(kind, "__metadata__"):  # Annotated[int or float, Range]
        return _matches(kind.__origin__, value) and value in kind.__metadata__[0]
    if kind in (int, float):
        number = isinstance(value, (int, float) if kind is float else int)
        return number and not isinstance(value, bool) and value == value
    return origin is None and isinstance(value, kind)


def _describe(kind: Any) -> str:
    """What a value of a type has to be: `a whole number of at least 1`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        kinds = [_describe(one) for one in arguments]
        return f"{', '.join(kinds[:-1])}, or {kinds[-1]}"
    if hasattr(kind, "__metadata__"):
        text: str = kind.__metadata__[0].describe(kind.__origin__)
        return text
    if origin is tuple and arguments[-1] is not Ellipsis:
        item = _describe(arguments[0]).removeprefix("a ").replace("number", "numbers", 1)
        return f"{_NUMERALS[len(arguments)]} {item}"
    if origin is tuple:
        return f"a list, of each {_describe(arguments[0])}"
    return "a mapping" if origin is Mapping else _KINDS.get(kind, str(kind))
