"""A W&B client that fails ends its mirror with one line, and nothing else."""

from types import SimpleNamespace

from normlab.config.schema import WandbConfig
from normlab.folder.place import Place
from normlab.mirror.wandb_run import WandbRun, unreachable


class Client:
    """Notes what a run is asked for; `broken` methods raise."""

    offline, disabled, starting_step = True, False, 0

    def __init__(self, *broken, error=None):
        self.broken, self.error = broken, error or BrokenPipeError("the service has gone")
        self.asked = []
        self.summary = SimpleNamespace(update=lambda values: self._ask("summary", values))

    def _ask(self, name, *arguments, **options):
        self.asked.append(name)
        if name in self.broken:
            raise self.error

    def __getattr__(self, name):
        return lambda *arguments, **options: self._ask(name, *arguments, **options)


def logger(run, tmp_path):
    return WandbRun(run, WandbConfig(project="p", timeout=7), lambda: 1, Place(tmp_path, "a", 1))


def test_a_client_that_breaks_is_one_line_and_is_still_closed(tmp_path, capsys):
    run = Client("log", "summary", "finish")
    mirror = logger(run, tmp_path)
    for step in range(3):
        mirror.log_metrics({"x": 1.0}, step)
    mirror.close({"y": 2})
    assert run.asked.count("log") == 1
    assert run.asked[-1] == "finish"
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the service has gone" in said
    assert "make sync" in said


def test_an_end_that_takes_too_long_says_how_long(tmp_path, capsys):
    mirror = logger(Client("finish", error=TimeoutError("…")), tmp_path)
    mirror.close({"y": 2})
    assert "within 7 s" in capsys.readouterr().err


def test_a_closed_run_takes_nothing_more(tmp_path):
    run = Client()
    mirror = logger(run, tmp_path)
    mirror.close({"y": 2})
    before = list(run.asked)
    mirror.log_metrics({"x": 1.0}, 1)
    mirror.close({"y": 2})
    assert run.asked == [*before, "finish"]


def test_a_run_that_was_never_begun_is_no_trouble(tmp_path, capsys):
    mirror = logger(None, tmp_path)
    mirror.log_metrics({"x": 1.0}, 1)
    mirror.close({"y": 2})
    assert capsys.readouterr().err == ""


def test_an_address_without_a_server_is_said_at_once():
    assert "can't be reached" in unreachable("http://127.0.0.1:9", 5)


def test_where_no_run_could_begin_lightning_does_not_begin_one(tmp_path):
    mirror = logger(None, tmp_path)
    assert mirror.experiment is None
    mirror.log_metrics({"x": 1.0}, 1)
    mirror.close({"y": 2})
