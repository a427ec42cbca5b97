"""Users' own modules, found by path or by name."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType

from .._errors import ConfigError

__all__ = ["load_module"]


def load_module(option: str, where: str, what: str) -> tuple[ModuleType, str]:
    """The module of `file.py:name` or `package.module:name`, and the name; empty where none is given.

    `what` is what the name stands for, in the words of an error. Raises ConfigError.
    """
    place, _, name = where.rpartition(":")
    if not place:
        place, name = where, ""
    expected = f"file.py:{what} or package.module:{what}"
    try:
        if not place.endswith(".py"):
            sys.path.insert(0, os.getcwd())
            return importlib.import_module(place), name
        spec = importlib.util.spec_from_file_location("barewire_user_strategy", place)
        if spec is None or spec.loader is None or not os.path.exists(place):
            raise ConfigError(f"{option} {where!r}: no such file {place}; expected {expected}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module, name
    except ConfigError:
        raise
    except Exception as problem:
        raise ConfigError(
            f"{option} {where!r}: cannot import {place}: {type(problem).__name__}: {problem}; expected {expected}"
        ) from None
