"""What is raised where the user asked for something that can't work. Imports nothing of normlab."""


class InputError(ValueError):
    """The user asked for something that can't work.

    The message is one or two plain sentences: what is wrong, and what would be right. The command line prints it
    without a traceback and exits with status 2.
    """
