"""Text that can be shown everywhere: names come from people's files, and go to terminals, HTML, SVG, LaTeX and W&B."""

from __future__ import annotations

from typing import Any


def printable(value: Any) -> Any:
    """The same value with control characters and halves of characters replaced by U+FFFD, in all texts within it."""
    if isinstance(value, str):
        return "".join(_shown(letter) for letter in value) if not value.isprintable() else value
    if isinstance(value, dict):
        return {printable(key): printable(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [printable(entry) for entry in value]
    return value


def _shown(letter: str) -> str:
    """Tabs and line breaks stay; so do all characters but those that XML and terminals take for commands."""
    code = ord(letter)
    command = (code < 32 and letter not in "\t\n") or 127 <= code < 160
    half = 0xD800 <= code < 0xE000 or code in (0xFFFE, 0xFFFF)
    return "\N{REPLACEMENT CHARACTER}" if command or half else letter
