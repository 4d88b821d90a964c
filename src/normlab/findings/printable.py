"""Text that can be shown everywhere: names in users' files are shown in terminals, HTML, SVG, LaTeX and W&B."""

from __future__ import annotations

from typing import Any


def printable(value: Any) -> Any:
    """The same value, with control characters and lone surrogates in its texts replaced by U+FFFD."""
    if isinstance(value, str):
        return "".join(_shown(letter) for letter in value) if not value.isprintable() else value
    if isinstance(value, dict):
        return {printable(key): printable(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [printable(entry) for entry in value]
    return value


def _shown(letter: str) -> str:
    """Replace the characters that XML and terminals interpret; tabs and line breaks stay."""
    code = ord(letter)
    command = (code < 32 and letter not in "\t\n") or 127 <= code < 160
    half = 0xD800 <= code < 0xE000 or code in (0xFFFE, 0xFFFF)
    return "\N{REPLACEMENT CHARACTER}" if command or half else letter
