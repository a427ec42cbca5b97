"""TOML files into checked tables, and what is said of one that cannot be.

Every field's description is the phrase that an error says was expected.
"""

from __future__ import annotations

import datetime as dt
import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ._errors import ConfigError

__all__ = ["read_tables"]

_Model = TypeVar("_Model", bound=BaseModel)


def read_tables(model: type[_Model], source: str | os.PathLike[str] | Mapping[str, Any], tables: str) -> _Model:
    """`model` from a TOML file's path, TOML text (a string of several lines) or a mapping.

    `tables` names what the file must have, for what is said of one that has nothing. Raises ConfigError, which names
    every wrong key, its value and what was expected; OSError.
    """
    origin = ""
    if isinstance(source, Mapping):
        data: object = dict(source)
    else:
        try:
            if isinstance(source, str) and "\n" in source:
                data = tomllib.loads(source)
            else:
                origin = f"{os.fspath(source)}: "
                with open(source, "rb") as file:
                    data = tomllib.load(file)
        except tomllib.TOMLDecodeError as error:
            raise _error([f"{origin}not TOML: {_lower(str(error))}"], expected="TOML") from None
        except UnicodeDecodeError as error:
            line = f"{origin}not TOML: byte {error.start} is not UTF-8 text; is this a configuration file?"
            raise _error([line], expected="TOML") from None
    try:
        return model.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        first = details[0]
        says = _Says(model, tables)
        raise _error(
            [origin + says.problem(detail) for detail in details],
            key=_key(first["loc"]),
            value=None if first["type"] == "missing" or _is_secret(first) else first["input"],
            expected=says.expected(first),
        ) from None


def _error(problems: list[str], *, key: str = "", value: object = None, expected: str = "") -> ConfigError:
    return ConfigError("\n".join(problems), key=key, value=value, expected=expected, problems=problems)


class _Says:
    """What is wrong with a value, in the words of the tables' own descriptions."""

    def __init__(self, model: type[BaseModel], tables: str) -> None:
        self._model = model
        self._tables = tables

    def problem(self, detail: ErrorDetails) -> str:
        """One line: the key, the value and what was expected."""
        key = _key(detail["loc"])
        if detail["type"] == "extra_forbidden":
            return f"{key}: unknown key; {self.expected(detail)}"
        if detail["type"] == "missing":
            return f"{key} is missing; expected {self.expected(detail)}"
        if not key:
            return self.expected(detail)
        found = '"..."' if _is_secret(detail) else _toml(detail["input"])
        return f"{key} = {found}: expected {self.expected(detail)}"

    def expected(self, detail: ErrorDetails) -> str:
        """What was expected."""
        loc = detail["loc"]
        if detail["type"] == "extra_forbidden":
            allowed = list(self._walk(loc[:-1])[0].model_fields)
            near = difflib.get_close_matches(str(loc[-1]), allowed, n=1)
            return f"did you mean {near[0]}?" if near else f"expected one of: {', '.join(allowed)}"
        if detail["type"] == "barewire" and detail["msg"]:
            return detail["msg"].removeprefix("expected ")
        if detail["type"] == "literal_error" and isinstance(loc[-1], int):
            return str(detail["ctx"]["expected"]).replace("'", '"')
        return self._walk(loc)[1]

    def _walk(self, loc: Iterable[int | str]) -> tuple[type[BaseModel], str]:
        """The innermost table on the way to a value, and the description of the value's own field."""
        model, description = self._model, self._tables
        for part in loc:
            if isinstance(part, int) or part not in model.model_fields:
                continue  # a place in a list: the list's description stands
            field = model.model_fields[part]
            description = field.description or description
            for kind in (field.annotation, *get_args(field.annotation)):
                if isinstance(kind, type) and issubclass(kind, BaseModel):
                    model = kind
        return model, description


def _is_secret(detail: ErrorDetails) -> bool:
    """Whether the value is not to appear in a log."""
    return detail["loc"][-1:] == ("password",)


def _key(loc: Iterable[int | str]) -> str:
    key = ""
    for part in loc:
        if isinstance(part, int):
            key += f"[{part}]"
        else:
            name = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part)
            key += f".{name}" if key else name
    return key


def _toml(value: object) -> str:
    """A value as it stands in the file, near enough, and never longer than a line."""
    if isinstance(value, (str, bool, int, float, list)):
        text = json.dumps(value, ensure_ascii=False, default=str)
    elif isinstance(value, Mapping):
        text = "a table"
    else:
        text = str(value) if isinstance(value, (dt.date, dt.time)) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
