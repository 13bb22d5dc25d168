"""Names of faces: every one its own, on every file system."""

from __future__ import annotations

import re
from collections.abc import Iterable


class Names:
    """Gives every face a name of its own, also on file systems that ignore case."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {name.casefold() for name in taken}

    def unique(self, name: str) -> str:
        """``name``, or ``name-2``, ``name-3``, … when it is taken."""
        candidate, count = name, 1
        while candidate.casefold() in self._taken:
            count += 1
            candidate = f"{name}-{count}"
        self._taken.add(candidate.casefold())
        return candidate


def clean_name(stem: str) -> str:
    """``stem`` as a file name that every system takes: letters, digits, ``. _ -``; at most 100 characters."""
    return re.sub(r"[^\w.\-]+", "_", stem).strip("._")[:100] or "photo"
