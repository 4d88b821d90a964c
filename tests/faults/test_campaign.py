"""A few trials of the campaign of faults; `make faults` makes many."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_no_fault_of_twenty_loses_alters_or_repeats_a_run():
    command = [sys.executable, Path(__file__).with_name("campaign.py"), "--trials", "20", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
