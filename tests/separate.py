"""A separate process: as another user, or in its own PID namespace, as in a container."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess

GROUP = 2000  # of all users
USERS = range(20001, 20005)
NEW_MOUNTS, NEW_NUMBERS = 0x00020000, 0x20000000  # of unshare(2)
PARENT_DIES, KEEP_RIGHTS = 1, 8  # of prctl(2)
RIGHTS_VERSION, MAY_READ = 0x20080522, 1 << 2  # of capset(2): CAP_DAC_READ_SEARCH


def become(user: int) -> None:
    """A user of the group, who leaves what they make open to it, and may read all that root may.

    What they may write is what is tried; Python itself may lie in root's own folder.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(KEEP_RIGHTS, 1)
    os.setgroups([GROUP])
    os.setgid(GROUP)
    os.setuid(user)
    header = (ctypes.c_uint32 * 2)(RIGHTS_VERSION, 0)
    effective_permitted_inherited = (ctypes.c_uint32 * 6)(MAY_READ, MAY_READ, 0, 0, 0, 0)
    if libc.capset(header, effective_permitted_inherited):
        raise OSError(ctypes.get_errno(), "capset")
    os.umask(0o002)


def process_numbers() -> None:
    """Continue in a child with a new PID namespace; this process ends with its status."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_NUMBERS | NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "unshare")
    if first := os.fork():
        _end_like(first)
    libc.prctl(PARENT_DIES, signal.SIGKILL)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
    if worker := os.fork():  # the first process can't kill itself
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        _end_like(worker)


def can_be_made() -> str:
    """Why no new PID namespace can be created here; empty if it can."""
    done = subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "no new PID namespace can be created here (root is needed)"


def _end_like(pid: int) -> None:
    """With the child's status; one that was killed is told by 137."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL) and os.getpid() != 1:
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(code if code >= 0 else 128 - code)
