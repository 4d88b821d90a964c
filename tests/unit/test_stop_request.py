"""What a process does at the first signal, at the next ones, and at the one that is meant to end it now."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from normlab.stopping.children import starting_deaf
from normlab.stopping.request import STOPS, Stopped, listening, stop_request


@pytest.fixture
def request_to_stop():
    """Of this process, with handlers that nobody ignores."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in STOPS}
    stop_request.cache_clear()  # that of this test alone
    with listening() as request:
        yield request
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_with_nothing_to_save_the_first_signal_ends_it(number, status, request_to_stop):
    with pytest.raises(Stopped) as stopped:
        signal.raise_signal(number)
    assert stopped.value.code == status


def test_later_signals_interrupt_nothing(request_to_stop, capfd):
    with pytest.raises(Stopped):
        signal.raise_signal(signal.SIGINT)
    for number in (*STOPS, signal.SIGINT, signal.SIGTERM) * 6:
        signal.raise_signal(number)
    assert capfd.readouterr().err.splitlines() == [
        "Ctrl-C: stopping ...",
        "saving: to quit without saving, wait a second and press Ctrl-C once more",
    ]


def test_a_held_request_waits_until_it_is_released(request_to_stop, capfd):
    request_to_stop.hold("saving before the next step")
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)
    assert "SIGTERM: saving before the next step ..." in capfd.readouterr().err
    request_to_stop.hold("recording the result")
    with pytest.raises(Stopped) as stopped:
        request_to_stop.release()
    assert stopped.value.code == 143


def test_what_swallowed_the_stop_gets_nothing_recorded(request_to_stop):
    with suppress(BaseException):
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(Stopped):
        request_to_stop.hold("recording the result")


def test_what_is_to_be_done_first_is_done_once(request_to_stop):
    done = []
    with request_to_stop.first_doing(lambda: done.append(signal.raise_signal(signal.SIGINT))), pytest.raises(Stopped):
        signal.raise_signal(signal.SIGINT)
    assert done == [None]


def test_handlers_are_put_back_and_the_next_listener_has_not_been_asked():
    before = [signal.getsignal(number) for number in STOPS]
    with listening():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        with listening() as inner, pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)
        assert inner.signum == signal.SIGTERM
    assert [signal.getsignal(number) for number in STOPS] == before
    assert stop_request().signum is None


def test_another_thread_can_listen_for_nothing():
    found = []
    thread = threading.Thread(target=lambda: found.append(stop_request().install()))
    thread.start()
    thread.join()
    assert found == [False]


PROGRAM = """
from normlab.stopping.program import begin
begin(__name__)
import os, signal, sys, time
from normlab.stopping.request import stop_request
"""


def program(body: str, *, ignoring: tuple[signal.Signals, ...] = ()) -> subprocess.Popen[str]:
    def prepare() -> None:
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN if number in ignoring else signal.SIG_DFL)

    command = [sys.executable, "-c", PROGRAM + body]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=prepare, start_new_session=True
    )


def ended(started: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = started.communicate(timeout=30)
    return started.returncode, out + err


def test_a_deliberate_third_signal_quits_in_the_middle_of_a_save():
    started = program("stop_request().hold('saving'); print('on', flush=True)\nwhile True: time.sleep(0.01)")
    started.stdout.readline()
    for pause in (0.0, 0.1, 1.2):
        time.sleep(pause)
        started.send_signal(signal.SIGINT)
    status, said = ended(started)
    assert status == 130
    assert "quitting at once" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "body",
    [
        "class A:\n def __del__(self): os.kill(os.getpid(), signal.SIGTERM)\na = A(); del a\ntime.sleep(9)",
        "try: os.kill(os.getpid(), signal.SIGTERM); time.sleep(1)\nexcept BaseException: raise ImportError from None",
        "import atexit; atexit.register(os.kill, os.getpid(), signal.SIGTERM)\nsys.exit(143)",
        "import threading; threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start(); time.sleep(5)",
        "try: 1 / 0\nfinally: os.kill(os.getpid(), signal.SIGTERM); time.sleep(1)",
    ],
    ids=["destructor", "turned into another error", "at exit", "thread", "finally"],
)
def test_wherever_it_arrives_there_is_no_traceback(body):
    status, said = ended(program(body))
    assert status == 143
    assert "Traceback" not in said
    assert "Exception ignored" not in said


def test_what_nohup_ignores_stays_ignored():
    body = "os.kill(os.getpid(), signal.SIGHUP); os.kill(os.getpid(), signal.SIGINT); print('went on')"
    assert ended(program(body, ignoring=(signal.SIGHUP, signal.SIGINT))) == (0, "went on\n")


def test_children_that_are_started_deaf_hear_no_terminal_and_their_parent_does():
    body = (
        "import subprocess\n"
        "from normlab.stopping.children import starting_deaf\n"
        "code = 'import time; time.sleep(1.5); print(chr(100) + chr(101) + chr(97) + chr(102))'\n"
        "from multiprocessing import resource_tracker\n"
        "with starting_deaf():\n"
        "    resource_tracker.ensure_running()\n"  # as joblib does; when it starts, it unblocks Ctrl-C
        "    child = subprocess.Popen([sys.executable, '-c', code])\n"
        "    print('on', flush=True)\n"
        "    try:\n"
        "        while child.poll() is None: time.sleep(0.01)\n"
        "    except SystemExit:\n"
        "        child.wait()\n"
        "        raise\n"
    )
    started = program(body)
    started.stdout.readline()
    time.sleep(0.2)
    os.killpg(started.pid, signal.SIGINT)
    status, said = ended(started)
    assert status == 130
    assert "deaf" in said
    assert "Traceback" not in said


def test_the_block_of_signals_ends_with_it():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with starting_deaf():
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
