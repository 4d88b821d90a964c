"""What would tell where nothing is known: the command, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from normlab.advice.literature import LITERATURE
from normlab.advice.matrix import Answer
from normlab.findings.advice import Model, When
from normlab.findings.finding import LEAST, Finding


@dataclass(frozen=True)
class Tell:
    """For a cell without a decision: what the literature says, and how to find out.

    literature  empty if we know of nothing
    """

    literature: str
    command: str
    cost: str


def tell(when: When, model: Model, answer: Answer) -> Tell | None:
    """None if the question is decided, the same on all data."""
    if answer.best and answer.best[0].outcome == "depends":  # then only the reader's own data tell
        norms = ",".join(name.partition(" ")[0] for name in (answer.best[0].advice.plus, answer.best[0].advice.minus))
        return Tell("", *_compared(norms, f"model={model} {_OWN_DATA[model]}" if model in _OWN_DATA else _NET))
    if answer.best and answer.best[0].decided:
        return None
    finding = answer.best[0].finding if answer.best else next(iter(answer.untried), None)
    literature = LITERATURE.get((model, when), "")
    if finding is None:
        return Tell(literature, *_own_runs(when, model))
    scale = next((name for name in ("quick", "full", "paper") if name in finding.scales), "full")
    own = " scale.tuning=own" if finding.tune is not None and scale == "quick" else ""
    literature = literature or finding.expect
    return Tell(literature, f"python train.py finding={finding.name} scale={scale}{own}", _cost(finding, answer))


# the most runs of an arm that compare= does: nine to tune its rate, then up to 24 seeds
PER_ARM = 33
_NET = "model=module model.target=nets.py:Net"


def _own_runs(when: When, model: Model) -> tuple[str, str]:
    """The command and its cost where no finding of ours asks the question."""
    if when == "evaluation_gap":
        command = "normlab check my_package.training:LitModel --data my_package.training:Data"
        return (
            command,
            "a hundred steps of your training, watched by NormMonitor, which names the norm that drifts and what helps",
        )
    if when == "segmentation":
        options = f"{_NET} task=segmentation_files task.path=photos/ task.batch_size=2"
        return _compared("own,group,batch", options)
    if when in _TIMES:
        options = _NET if model == "vit" else f"model={model}"
        return f"normlab {_TIMES[when]} {options}", "one run, in which the two norms take turns"
    here = _HERE.get(when, "")
    if model == "vit" or when == "pretraining":
        return _compared("own,rms,batch", f"{_NET} task=image_files task.path=photos/{here}")
    if when == "small_data":
        return _compared("layer,batch", f"model={model} {_OWN_DATA[model]}")
    if when in ("variable_lengths", "unseen_lengths") and model in ("lstm", "gru", "transformer"):
        return _compared("layer,batch", f"model={model} task=word_stress task.batch_size=32")
    if when == "causal":
        return _compared("layer,rms", f"model={model} task=union")
    return _compared("layer,batch", f"model={model}{here}")


_TIMES: dict[When, str] = {
    "training_time": "measure=step_time norm=layer norm@measure.against=batch",
    "single_example": "measure=step_time measure.batch_size=1 norm=layer norm@measure.against=none",
    "inference_time": "measure=inference_time norm=layer norm@measure.against=batch",
}
# what makes a comparison one under the condition
_HERE: dict[When, str] = {"few_examples": " task.batch_size=4", "few_steps": " trainer.steps=100"}
_OWN_DATA: dict[Model, str] = {
    **{"cnn": "task=image_files task.path=photos/", "mlp": "task=table_files task.path=rows.csv"},
    **dict.fromkeys(("lstm", "gru", "transformer"), "task=text_files task.path=reviews.csv"),
}


def _compared(norms: str, options: str) -> tuple[str, str]:
    """By `compare=`, which tunes each norm and pairs seeds."""
    most = PER_ARM * len(norms.split(","))
    cost = f"at most {most} runs, each norm tuned and seeds paired; dry=true says how long they take on your machine"
    return f"normlab compare={norms} {options}", cost


def _cost(finding: Finding, answer: Answer) -> str:
    """Runs, and how long one of them took where one has run."""
    least, cells = LEAST[finding.seeds], len(finding.cells)
    runs = f"{least * cells} runs: {cells} cells, {least} seeds each"
    runs += f", and tuning over {len(finding.tune.points)} rates" if finding.tune is not None else ""
    rows = answer.best[0].result.rows if answer.best else []
    spent = [row["seconds"] for row in rows if isinstance(row.get("seconds"), int | float)]
    return runs + (f"; one took about {sum(spent) / len(spent):,.0f} s" if spent else "")
