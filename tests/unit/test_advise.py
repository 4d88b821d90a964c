"""The advisor looks up what was measured, cites it, and says where there is nothing."""

import io
import sys
from dataclasses import asdict, replace

import pytest
from made_up_studies import reported
from rich.console import Console
from study_folders import ADVICE, save

from finding_files import finding, write
from normlab.advice import questions
from normlab.advice.matrix import Answer, matrix_of
from normlab.advice.questions import conditions
from normlab.advice.tell import tell
from normlab.commands import advise, console
from normlab.config.schema import InputError
from normlab.config.shipped import CONF
from normlab.findings.advice import CONDITIONS
from normlab.findings.judge import judge
from normlab.findings.read import read_finding
from normlab.folder.jsonfile import write_json
from normlab.folder.study_table import write_rows
from normlab.report.build import gather
from normlab.results.words import FEW
from slowly import some


@pytest.fixture
def asked(tmp_path):
    """What the script answers to choices, where the planted finding came out with an effect."""

    def answer(effect: float, *choices: str, **changes) -> str:
        fixed = read_finding(write(tmp_path / "conf", finding(advice=ADVICE, **changes)))
        folder = save(tmp_path / "outputs/studies/planted-quick", fixed, effect)
        report = gather([folder], tmp_path / "conf", tmp_path / "none")
        model, chosen, remarks = conditions(choices)
        output = io.StringIO()
        advise.show(Console(file=output, width=200), report.matrix, model, chosen or CONDITIONS, remarks)
        return output.getvalue()

    return answer


@pytest.mark.parametrize(
    ("effect", "words"),
    [
        (0.05, "layer norm rather than batch norm: "),
        (-0.05, "batch norm rather than layer norm: "),
        (0.0, "layer norm or batch norm: no difference that matters: "),
        (0.02, "layer norm or batch norm: not decided: "),
    ],
)
def test_a_preference_is_what_the_interval_says_of_the_margin(asked, effect, words):
    said = asked(effect, "model=lstm", "batch=4", margin=0.02)
    assert words in said
    assert "planted, your study planted-quick" in said
    assert "runs layer-0, layer-1, layer-2 and 13 more in " in said


@pytest.mark.parametrize(
    ("outcomes", "outcome", "words", "others"),
    [
        (("plus", "minus"), "depends", "layer norm or batch norm: it depends", 0),
        (("equal", "plus"), "depends", "layer norm or batch norm: it depends", 0),
        (("plus", "open"), "plus", "layer norm rather than batch norm, but not in every case", 0),
        (("plus", "plus"), "plus", "layer norm rather than batch norm", 1),
    ],
)
def test_a_study_on_several_data_sets_says_where_they_disagree(tmp_path, outcomes, outcome, words, others):
    fixed = read_finding(write(tmp_path / "conf", finding(advice=ADVICE)))
    folder = save(tmp_path / "outputs/studies/planted-quick", fixed, 0.05)
    cell = (ADVICE[0]["when"], ADVICE[0]["model"])
    (one,) = gather([folder], tmp_path / "conf", tmp_path / "none").matrix[cell].best
    found = [replace(one, outcome=each, data=data) for each, data in zip(outcomes, ("images", "words"), strict=True)]
    answer = Answer(found).sorted()
    assert [(each.outcome, each.words) for each in answer.best] == [(outcome, words)]
    assert len(answer.others) == others
    assert all((f"{data}: " in answer.best[0].short) == (not others) for data in ("images", "words"))
    told = tell(*cell, answer)
    assert (told is not None and told.command.startswith("normlab compare=layer,batch model=lstm")) == (
        outcome == "depends"
    )


def test_a_finding_whose_successor_has_a_verdict_decides_no_claim(tmp_path):
    earlier = read_finding(write(tmp_path / "conf", finding(advice=ADVICE, succeeded_by="later")))
    folder = save(tmp_path / "outputs/studies/planted-quick", earlier, 0.05)
    (own,) = gather([folder], tmp_path / "conf", tmp_path / "none").sections[0].results
    later = earlier.model_copy(update={"name": "later", "succeeded_by": None, "advice": []})
    cell = (ADVICE[0]["when"], ADVICE[0]["model"])
    assert matrix_of([earlier, later], {"planted": [own]})[cell].best[0].strength == "strong: it decides a claim"
    both = {"planted": [own], "later": [own]}
    assert matrix_of([earlier, later], both)[cell].best[0].strength == "moderate: it decides no claim"


def test_an_edge_or_a_missing_run_decides_nothing(asked):
    said = asked(0.05, "model=lstm", "batch=4", seeds="init")  # which needs ten seeds
    assert "layer norm or batch norm: not decided" in said


def test_where_there_is_nothing_it_says_so(asked):
    said = asked(0.05, "model=lstm", "batch=4", "lengths=variable")
    assert "no evidence" in said.partition("padded sequences")[2]
    assert "there is no evidence on combinations of conditions" in said


def test_without_conditions_all_of_them_are_shown(asked):
    said = asked(0.05, "model=lstm")
    assert said.count("lstm · ") == len(CONDITIONS)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ([], "no model is given: model=cnn"),
        (["model=rnn"], "there is no model=rnn: model=cnn, model=lstm"),
        (["model=lstm", "batch=many"], "batch=many must be a whole number"),
        (["model=lstm", "batch=0"], "batch=0 must be a whole number"),
        (["model=lstm", "length=long"], "length=long: choose model="),
        (["model=lstm", "lengths=long"], "there is no lengths=long; there are fixed, variable, unseen"),
        (["lstm"], "lstm: choose model="),
        (["model=lstm", "model=cnn"], "model is chosen twice"),
    ],
)
def test_a_wrong_choice_is_refused_in_words(choices, message):
    with pytest.raises(InputError) as refused:
        conditions(choices)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("batch", "chosen"),
    [(1, ["single_example"]), (16, ["few_examples"]), (30, ["few_examples", "many_examples"]), (64, ["many_examples"])],
)
def test_the_batch_is_looked_up_where_it_was_tested(batch, chosen):
    assert conditions(["model=cnn", f"batch={batch}"])[1] == chosen


@pytest.mark.parametrize("written", some([["output={}"], ["--output", "{}"], ["--output={}"]]))
def test_the_folder_is_written_as_train_py_takes_it_too(written, tmp_path, capsys):
    advise.main(["model=lstm", "batch=4", *(each.format(tmp_path / "none") for each in written)])
    assert "lstm · statistics over few examples" in capsys.readouterr().out


def test_the_script_refuses_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["normlab", "advise", "model=rnn"])
    with pytest.raises(SystemExit) as ended:
        console.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: there is no model=rnn")


def test_advice_that_names_no_contrast_is_refused(tmp_path):
    wrong = [{**ADVICE[0], "contrast": "other"}]
    with pytest.raises(InputError, match="advice names the contrast other; there are main"):
        read_finding(write(tmp_path / "conf", finding(advice=wrong)))


def test_advice_is_no_part_of_the_rule(tmp_path):
    with_it, without = (read_finding(write(tmp_path / n, finding(advice=a))) for n, a in (("a", ADVICE), ("b", None)))
    assert with_it.rule_hash == without.rule_hash


def test_a_norm_that_advice_names_is_in_the_contrast():
    """`plus` and `minus` begin with the norms of the contrast's arms, and stand on the right sides of it."""
    from normlab.results.words import norm_of

    for path in sorted((CONF / "finding").glob("*.yaml")):
        fixed = read_finding(path)
        for entry in fixed.advice:
            if entry.contrast is None or fixed.formulas[entry.contrast].constant is not None:
                continue
            formula = fixed.formulas[entry.contrast]
            if len(formula.weights) != 2:
                continue
            norms = {weight: norm_of(fixed, cell) for cell, weight in formula.weights.items()}
            assert (entry.plus.split()[0], entry.minus.split()[0]) == (norms[1], norms[-1]), f"{path.stem}: {entry}"


@pytest.mark.parametrize(
    ("coupling", "n", "words"),
    [
        (0.0, 2, "layer norm rather than batch norm: exact: 2 bounds hold"),
        (1.0, 2, "batch norm rather than layer norm: exact: 2 of 2 bounds broken"),
        (0.0, 1, "layer norm or batch norm: not decided: exact: incomplete: layer has 1 of 2 seeds"),
        (
            1.0,
            1,
            "layer norm or batch norm: not decided: exact: incomplete: layer has 1 of 2 seeds; "
            "2 of 2 bounds broken so far",
        ),
    ],
)
def test_an_exact_finding_advises_by_its_bounds_and_only_when_it_is_complete(tmp_path, coupling, n, words):
    exact = {
        "rule": "exact", "margin": None, "contrasts": None, "tune": None, "seeds": "exact",
        "bounds": {"layer": {"coupling": [0, 0]}, "batch": {"coupling": [0, 0]}},
        "advice": [{**ADVICE[0], "contrast": None}],
    }  # fmt: skip
    fixed = read_finding(write(tmp_path / "conf", finding(**exact)))
    folder = tmp_path / "outputs/studies/planted-quick"
    folder.mkdir(parents=True)
    rows = [{**row, "coupling": coupling} for row in reported(0.0, 2) if row["seed"] < n]
    write_rows(folder / "runs.csv", rows)
    verdict = judge(fixed, rows, 2, "quick", {})
    write_json(folder / "verdicts.json", {"verdicts": [asdict(verdict)], "looks": {}})
    write_json(folder / "manifest.json", {"rules": {}})
    (found,) = gather([folder], tmp_path / "conf", tmp_path / "none").matrix["few_examples", "lstm"].best
    assert advise.lines(found)[0] == words


def reference_answers():
    return gather([]).matrix


def test_no_answer_of_the_reference_rests_on_too_little_or_contradicts_another():
    """Scores need six seeds and a tuned rate; both sides at chance are no equality."""
    counted = 0
    for answer in reference_answers().values():
        pairs = [frozenset((e.advice.plus, e.advice.minus)) for e in answer.best]
        assert len(pairs) == len(set(pairs))
        for each in [*answer.best, *answer.others]:
            verdict = each.result.verdict
            if each.advice.contrast is None or not each.decided:
                assert each.decided or " rather than " not in each.words
                continue
            counted += 1
            estimate = next(e for e in verdict.estimates if e.name == each.advice.contrast)
            assert len(estimate.seeds) >= FEW
            assert estimate.interval is not None
            assert estimate.sd > 0
            if each.finding.seeds == "training":
                cells = set(map(str, each.finding.formulas[estimate.name].weights))
                assert all(arm.point is not None for arm in verdict.arms if arm.cell in cells)
            assert not all(2 * len(failed) > len(estimate.all_seeds) for failed in estimate.failed or [[]])
    assert counted >= 4


def test_two_arms_at_chance_both_failed(asked):
    said = asked(0.0, "model=lstm", "batch=4", diverged_value=0.8)
    assert "layer norm and batch norm: both failed" in said
    assert "no difference that matters" not in said


def test_a_finding_without_tuning_gives_a_data_point(asked):
    assert "a data point, no conclusion" in asked(0.05, "model=lstm", "batch=4", tune=None)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (("model=cnn", "task=segmentation", "batch=2"), "10.6 points lower"),
        (("model=lstm", "lengths=variable", "batch=32"), "layer norm rather than batch norm over 4 examples"),
        (("model=vit", "task=pretraining"), "crashes a ViT"),
        (
            ("model=cnn", "want=inference_time"),
            "batch norm rather than layer norm, but not in every case: batch 1: batch norm, time of inference",
        ),
        (("model=transformer", "data=small"), "1910.05895"),
        (("model=cnn", "trouble=evaluation"), "NormMonitor"),
    ],
)
@pytest.mark.slow
def test_questions_as_people_ask_them_get_an_answer_or_how_to_find_one(question, words):
    output = io.StringIO()
    model, chosen, remarks = conditions(question)
    advise.show(Console(file=output, width=1000), reference_answers(), model, chosen, remarks)
    said = output.getvalue()
    assert words in said
    undecided = said.count("to find out: ") - said.count("your own data decide")  # which we have measured
    assert undecided == said.count("literature, not measured here: ")


@pytest.mark.parametrize(("choices", "command"), [
    ("model=mlp batch=4", "normlab compare=layer,batch model=mlp task.batch_size=4"),
    ("model=gru want=few_steps", "normlab compare=layer,batch model=gru trainer.steps=100"),
    ("model=gru task=language_model", "normlab compare=layer,rms model=gru task=union"),
    ("model=gru want=inference_time", "normlab measure=inference_time norm=layer norm@measure.against=batch model=gru"),
])  # fmt: skip
def test_what_would_tell_is_done_under_the_condition_that_was_asked_for(choices: str, command: str):
    model, chosen, _ = questions.conditions(choices.split())
    told = tell(chosen[0], model, Answer())
    assert told is not None
    assert told.command == command


@pytest.mark.parametrize("choice", ["lengths=variable", "lengths=unseen", "task=language_model"])
def test_networks_without_sequences_are_not_advised_on_them(choice: str):
    for model in ("cnn", "vit", "mlp"):
        with pytest.raises(InputError, match=f"{choice} is about sequences, which model={model} doesn't"):
            questions.conditions([f"model={model}", choice])
    assert set(questions.askable("cnn")) < set(questions.askable("lstm"))
