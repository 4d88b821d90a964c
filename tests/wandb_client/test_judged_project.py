"""`normlab judge wandb:entity/project` on the runs that a server holds."""

import json

import pytest
from wandb_state import ENTITY, Run


@pytest.fixture
def judged(normlab):
    return lambda *arguments, **environment: normlab("judge", *arguments, "--margin", "0.2", **environment)


@pytest.fixture
def project(server):
    """Ten seeds of two arms, of which the first is better by 1; one run of a third arm."""
    for seed in range(10):
        for arm, shift in (("layer", 1.0), ("batch", 0.0)):
            run = server.state.runs[f"{arm}{seed}"] = Run("trials", f"{arm}{seed}")
            run.config = {"norm": {"value": arm}, "seed": {"value": seed}, "optim": {"value": {"lr": 0.1}}}
            summary = {"val/acc": 0.37 * seed + shift * (1 + 0.01 * (seed * 7 % 5)), "_step": 3}
            run.lines["wandb-summary.json"][0] = json.dumps(summary)
    server.state.projects.add("trials")
    return f"wandb:{ENTITY}/trials"


def test_a_project_is_judged_by_its_summaries(judged, project, server):
    server.state.runs["batch3"].lines["wandb-summary.json"][0] = '{"val/acc": "NaN", "_step": 3}'
    server.state.runs["batch4"].lines["wandb-summary.json"][0] = '{"val/acc": 1.5, "_step": 3}'
    done = judged(project, "--arms", "layer", "batch")
    assert done.status == 0, done.err
    assert "layer is better than batch by more than" in done.out
    assert "0 of layer and 1 of batch failed" in done.out
    assert "arm from config key `norm`, seed from `seed`, metric `val/acc`" in done.out
    assert "history" not in " ".join(server.requests).lower()


@pytest.mark.slow
def test_an_address_of_the_browser_is_the_same(judged, project, server):
    done = judged(f"{server.address}/{ENTITY}/trials/workspace", "--arms", "layer", "batch")
    assert done.out.startswith("layer is better than batch"), done.err
    done = judged("https://example.org/loopback/trials")
    assert (done.status, "WANDB_BASE_URL" in done.err) == (2, True), done.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "words"),
    [(f"wandb:{ENTITY}/nothing", "nothing"), ("wandb:nothing", "write wandb:entity/project")],
)
def test_what_is_no_project_is_one_line(judged, project, address, words):
    done = judged(address)
    assert (done.status, words in done.err, done.err.count("\n")) == (2, True, 1), done.err


@pytest.mark.slow
def test_without_a_server_or_a_key_it_is_one_line(judged, project, server):
    done = judged(project, WANDB_API_KEY="")
    assert (done.status, "API key" in done.err, done.err.count("\n")) == (2, True, 1), done.err
    server.stop()
    done = judged(project)
    assert (done.status, "can't be reached" in done.err, done.err.count("\n")) == (2, True, 1), done.err
