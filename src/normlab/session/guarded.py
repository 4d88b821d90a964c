"""What happens when a training doesn't come to its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from normlab.config.schema import InputError
from normlab.session.resumable import unusable
from normlab.session.resumption import Resumption
from normlab.session.session import Session
from normlab.stopping.request import Paused, Stopped


@contextmanager
def guarded(session: Session, resumption: Resumption) -> Iterator[None]:
    """Close the loggers of a run that stops, and report an error before its first resumed step as the resume point's.

    Raises:
        InputError: the run can't resume from its resume point.
    """
    try:
        yield
    except (Stopped, Paused):
        session.finish({})
        raise
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if session.place.resume is None or resumption.trains:
            raise
        why = (str(error).splitlines() or [""])[0][:100]
        raise unusable(session.place, f"{type(error).__name__} {why}".strip()) from error
