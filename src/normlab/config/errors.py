"""The error for bad input. Imports nothing of normlab."""


class InputError(ValueError):
    """The user asked for something that can't work.

    The message is one or two plain sentences on one line: what is wrong, and what would be right. The command line
    prints it without a traceback and exits with status 2. Control characters of a value that it quotes are escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """The text in one line; characters that a terminal would interpret, as in names of files, are escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split("\n")))
