"""Names from a model file made harmless: identifiers for C, and text for comments and strings.

Everything that comes from a model is untrusted: names and doc strings may hold `*/`, quotes, newlines, keywords or nothing at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from hwgen.errors import ConfigError

TEXT_LIMIT = 120
IDENTIFIER_LIMIT = 48
PREFIX_LIMIT = 40

# Keywords of C99, C11 and C23 and of C++20, and names that the headers of the C library or the driver claim.
_RESERVED_WORDS = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t class co_await co_return
co_yield compl concept const const_cast consteval constexpr constinit continue decltype default delete do double dynamic_cast else
enum explicit export extern false float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr
operator or or_eq private protected public register reinterpret_cast requires restrict return short signed sizeof static
static_assert static_cast struct switch template this thread_local throw true try typedef typeid typename typeof typeof_unqual
union unsigned using virtual void volatile wchar_t while xor xor_eq
main errno stdin stdout stderr assert offsetof null eof linux unix i386 arm npu
"""
RESERVED = frozenset(_RESERVED_WORDS.split())


def plain(text: str) -> str:
    """`text` as it may stand in any comment or string literal: printable ASCII without quotes, backslash, `*`, `?`, `$`, `<`, `>`, `&`.

    Without `*` no comment opens or closes, without `?` there is no trigraph; long text is cut.
    """
    cleaned = re.sub(r"[^A-Za-z0-9 _.,:;+=()\[\]/@#-]", "_", text)
    if len(cleaned) > TEXT_LIMIT:
        cleaned = cleaned[: TEXT_LIMIT - 3] + "..."
    return cleaned.strip() or "unnamed"


def identifier(text: str) -> str:
    """A lower-case C identifier that resembles `text`: not a keyword, no leading digit or underscore, no double underscore."""
    cleaned = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:IDENTIFIER_LIMIT].strip("_")
    if not cleaned:
        return "unnamed"
    return f"n_{cleaned}" if cleaned[0].isdigit() or cleaned in RESERVED else cleaned


def unique_identifiers(texts: Iterable[str]) -> tuple[str, ...]:
    """One identifier per text, in order, all different: a name that was taken gets the first free number behind it."""
    taken: set[str] = set()
    result = []
    for text in texts:
        base = identifier(text)
        name, number = base, 2
        while name in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(name)
        result.append(name)
    return tuple(result)


def model_prefix(name: str) -> str:
    """The prefix of every file and symbol of one model, from the model's name."""
    prefix = identifier(name)[:PREFIX_LIMIT].strip("_")
    return f"n_{prefix}" if prefix.startswith("npu_") else prefix


def check_prefix(prefix: str) -> str:
    """`prefix` unchanged. Raises ConfigError when it cannot stand before C names and file names."""
    if model_prefix(prefix) != prefix:
        rule = f"must be a lower-case C identifier, not reserved, at most {PREFIX_LIMIT} characters"
        raise ConfigError(f"prefix {plain(prefix)!r}: {rule}; try {model_prefix(prefix)!r}")
    return prefix


def kernel_name(prefix: str, index: int) -> str:
    """The C function of node `index` of the graph, which the processor computes."""
    return f"{prefix}_kernel_{index}"
