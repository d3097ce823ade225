"""The user's cache folder: results that take long and follow from their key alone."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path


def cache_root() -> Path:
    """$HWGEN_CACHE, else hwgen below $XDG_CACHE_HOME, else ~/.cache/hwgen."""
    if os.environ.get("HWGEN_CACHE"):
        return Path(os.environ["HWGEN_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hwgen"


@cache
def source_hash(templates: Path) -> str:
    """SHA-256 over every source file of the package and those of the folder `templates`: hwgen's results follow from them and the input."""
    digest = hashlib.sha256()
    for folder, pattern in ((Path(__file__).parent, "*.py"), (templates, "*")):
        for path in sorted(path for path in folder.rglob(pattern) if path.is_file()):
            digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def cached_text(kind: str, key: str, make: Callable[[], str]) -> str:
    """`make()`, or what it returned for this `kind` and `key` before. A cache that cannot be read or written is no error."""
    path = cache_root() / kind / hashlib.sha256(key.encode()).hexdigest()
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = make()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            file.write(text)
        Path(file.name).replace(path)
    return text
