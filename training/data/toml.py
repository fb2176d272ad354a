"""Writes values as TOML, for drafted recipes and for the lines that messages advise to write."""

from __future__ import annotations

import json
import math
import re
from typing import Any


def as_toml(value: Any) -> str:
    """Return a text, a number, or a list or table of them as TOML."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_key(key)} = {as_toml(each)}' for key, each in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    # strings of JSON are strings of TOML, but for DEL
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else as_toml(name)
