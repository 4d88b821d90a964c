"""Findings about data in general: what is planted in scores per example is judged over seeds and examples."""

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import test_study
from rejudged_studies import differences, rejudge
from test_stats_two_way import slow

from finding_files import finding, write
from normlab.config.schema import InputError
from normlab.findings.judge import PRIMARIES, judge
from normlab.findings.read import read_finding
from normlab.findings.scope import Scope
from normlab.findings.stored import read_verdict, stored
from normlab.findings.verdict import Reason
from normlab.findings.wording import estimate_words, needed_words, numbers_of, reason_words, scope_words
from normlab.folder.example_scores import encode
from normlab.folder.study_folder import StudyFolder
from normlab.report.latex import finding_table
from normlab.study.logged import check_metrics

world = test_study.world  # the fixture
BOTH = ["seeds", "examples"]
FAMILY = 0.05 / PRIMARIES


@pytest.fixture
def about(tmp_path):
    """`about(**changes)`: a finding about data in general."""
    return lambda **changes: read_finding(
        write(tmp_path, finding(**{"generalises_over": BOTH, "tune": None, **changes}))
    )


def answers(examples=500, seeds=8, lead=0.06):
    """[arms, seeds, examples] right or wrong; layer is right more often by `lead`."""
    rng = np.random.default_rng(0)
    ease = 0.5 + 0.4 * rng.random(examples)
    skill = 0.01 * rng.normal(size=(2, seeds, 1))
    chance = ease + skill + np.array([lead, 0.0])[:, None, None] + 0.1 * rng.normal(size=(2, 1, examples))
    return rng.random((2, seeds, examples)) < chance


def study(scores, metric="test/accuracy", sizes=None, factor=1.0):
    """Rows and scores as the engine hands them to the judge."""
    rows, kept = [], {}
    kind = "accuracy" if metric == "test/accuracy" else "loss"
    for arm, own in zip(("layer", "batch"), scores, strict=True):
        for seed, values in enumerate(own):
            run, mean = f"{arm}-{seed}", float(np.average(values, weights=sizes))
            row = {"arm": arm, "condition": "", "seed": seed, "id": run, "diverged": False, "point": 0.01}
            rows.append({**row, "test/loss": mean, metric: mean * factor})
            kept[run] = {"metric": kind, "split": "s", "values": np.asarray(values), "sizes": sizes}
    return rows, kept


def judged(found, rows, kept, n=8, looks=()):
    return judge(found, rows, n, "quick", {}, looks=looks, scores=kept)


@pytest.mark.parametrize("looks", [(), (8, 12)])
def test_the_interval_is_the_slow_formulas(about, looks):
    scores = answers()
    found = judged(about(), *study(scores), looks=looks).deciding
    d = scores[0].astype(float) - scores[1].astype(float)
    alpha = FAMILY * ((8 / 12) ** 2 if looks else 1)  # what the first look may spend
    assert (found.interval.low, found.interval.high) == pytest.approx(slow(d.tolist(), [1] * 500, alpha), rel=1e-9)
    assert found.interval.level == found.seeds_alone.level == 1 - FAMILY
    assert (found.scope, found.examples) == (Scope.EXAMPLES, 500)
    alone = judged(about(generalises_over=["seeds"]), *study(scores), looks=looks).deciding
    assert alone.interval == found.seeds_alone
    assert (alone.scope, alone.seeds_alone, alone.mean) == (Scope.SEEDS, None, found.mean)


def test_a_verdict_over_seeds_may_be_open_over_examples(about):
    """Seeds agree on which of three hundred examples each arm gets right; other examples would be others."""
    number = np.arange(300)
    right = np.stack([number % 5 < 4, number * 7 // 10 % 10 < 7])[:, None]
    rows, kept = study(right ^ (np.random.default_rng(0).random((2, 8, 300)) < 0.02))
    assert judged(about(generalises_over=["seeds"]), rows, kept).state == "supported"
    verdict = judged(about(), rows, kept)
    assert (verdict.state, verdict.reason) == ("undecided", Reason.AT_MARGIN)
    assert needed_words(verdict).startswith("no number of seeds would distinguish")


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_losses_of_a_text_are_judged_by_blocks_in_the_metrics_unit(about, better):
    sizes = np.full(350, 64.0)
    sizes[-1] = 3
    losses = 4 + 0.1 * np.random.default_rng(0).normal(size=(2, 8, 350))
    losses[0 if better == "lower" else 1] -= 0.2
    found = about(metric="test/bits_per_character", better=better, diverged_value=0.0 if better == "higher" else 9.0)
    estimate = judged(found, *study(losses, found.metric, sizes, factor=1.5)).deciding
    assert estimate.mean == pytest.approx(0.3, abs=0.01)
    assert (estimate.examples, estimate.scope) == (350, Scope.EXAMPLES)
    d = 1.5 * (losses[0] - losses[1]) * (1 if better == "higher" else -1)
    starts = [block * 350 // 100 for block in range(101)]
    pairs = list(pairwise(starts))
    blocks = [[float(np.average(row[a:b], weights=sizes[a:b])) for a, b in pairs] for row in d]
    low, high = slow(blocks, [float(sizes[a:b].sum()) for a, b in pairs], FAMILY)
    assert (estimate.interval.low, estimate.interval.high) == pytest.approx((low, high))


def test_seeds_on_which_a_run_failed_are_left_out_with_their_scores(about):
    rows, kept = study(answers(seeds=9))
    rows[3] = {**rows[3], "test/accuracy": 0.05}  # at chance
    verdict = judged(about(), rows, kept, 9)
    assert verdict.deciding.left_out == [3]
    whole = [seed for seed in range(9) if seed != 3]
    d = [kept[f"layer-{s}"]["values"].astype(float) - kept[f"batch-{s}"]["values"] for s in whole]
    low, _ = slow(np.array(d).tolist(), [1] * 500, FAMILY)
    assert verdict.deciding.interval.low == pytest.approx(low)


def test_a_side_that_always_diverges_has_no_scores(about):
    rows, kept = study(answers())
    rows = [{**row, "diverged": row["arm"] == "batch"} for row in rows]
    verdict = judged(about(), rows, kept)
    assert (verdict.state, verdict.deciding.scope) == ("supported", Scope.DIVERGED)


def test_without_scores_the_verdict_is_over_seeds_and_says_so(about):
    rows, kept = study(answers())
    none = judged(about(), rows, {}).deciding
    assert (none.scope, none.seeds_alone) == (Scope.NONE_KEPT, None)
    assert scope_words(none) == "over seeds only: these runs kept no scores per example"
    some = judged(about(), rows, {run: record for run, record in kept.items() if run != "layer-5"}).deciding
    assert (some.scope, some.interval) == (Scope.SOME_KEPT, none.interval)
    few = judged(about(), *study(answers(99))).deciding
    assert (few.scope, few.examples) == (Scope.FEW_EXAMPLES, 99)


def test_arms_that_differ_on_few_examples_are_undecided(about):
    scores = np.ones((2, 8, 2000), bool)
    scores[1, :, :8] = False
    scores[1, ::2, 8] = False
    verdict = judged(about(margin=0.001), *study(scores))
    assert (verdict.state, verdict.reason) == ("undecided", Reason.ALIKE)
    assert reason_words(verdict) == "main differs on too few of the test's 2000 examples for an interval over them"
    assert "(too few examples differ: no interval)" in estimate_words(verdict.deciding)
    again = read_verdict(stored(verdict)).deciding
    assert again.seeds_alone == verdict.deciding.seeds_alone
    assert math.isinf(again.interval.high)


def test_runs_of_different_examples_are_refused_in_a_line(about):
    rows, kept = study(answers())
    kept["layer-2"] = {**kept["layer-2"], "split": "another"}
    with pytest.raises(InputError, match="tested on different test splits, of equal size"):
        judged(about(), rows, kept)
    kept["layer-2"] = {**kept["batch-2"], "values": kept["batch-2"]["values"][:400]}
    with pytest.raises(InputError, match="different test splits, 400 and 500 examples"):
        judged(about(), rows, kept)


def test_scores_of_another_run_are_refused(about):
    rows, kept = study(answers())
    kept["layer-0"] = kept["batch-0"]
    with pytest.raises(InputError, match=r"run layer-0 has test/accuracy=.*: one of the two is of another run"):
        judged(about(), rows, kept)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"generalises_over": ["examples"]}, "must be"),
        ({"generalises_over": ["seeds", "seeds"]}, "must be"),
        ({"generalises_over": ["seeds", "texts"]}, "generalises_over"),
        ({"metric": "validation/accuracy"}, "a mean over the test's examples"),
        ({"rule": "ratio", "margin": 1.1}, "needs rule=difference or equivalence"),
    ],
)
def test_what_a_finding_can_not_generalise_over(about, change, says):
    with pytest.raises(InputError, match=says):
        about(**change)


def test_the_rule_of_a_finding_about_seeds_is_as_it_was(about):
    """Its hash knows of the choice only where it isn't the default."""
    assert about(generalises_over=["seeds"]).rule_hash == about(generalises_over=None).rule_hash != about().rule_hash


def test_a_classification_keeps_no_losses(about):
    config = SimpleNamespace(
        measure=SimpleNamespace(summary=(), scores=True, name="training"),
        task=SimpleNamespace(goal="classification"),
        test=True,
    )
    with pytest.raises(InputError, match="which are right, so take metric=test/accuracy"):
        check_metrics(about(metric="test/loss"), dict.fromkeys(about().cells, config))


def test_both_intervals_are_printed(about):
    found = about()
    verdict = judged(found, *study(answers()))
    line = numbers_of(verdict, found)[1]
    assert line.startswith("main: over seeds and the test's 500 examples; over seeds alone [")
    assert "What the intervals cover" in finding_table(found, verdict)


def test_a_verdict_of_an_earlier_version_can_be_read(about):
    values = stored(judged(about(), *study(answers())))
    (estimate,) = values["estimates"]
    new = ("scope", "examples", "example_error", "seeds_alone")
    older = {name: value for name, value in estimate.items() if name not in new}
    assert read_verdict({**values, "estimates": [older]}).deciding.scope is Scope.SEEDS
    with pytest.raises(ValueError, match="other"):
        read_verdict({**values, "estimates": [{**estimate, "scope": "other"}]})


def with_scores(config, effect):
    """Summaries of made-up runs with answers; seeds differ little."""
    right = answers(400, 24, lead=0.2)[0 if config.norm_name == "layer" else 1, config.seed % 24]
    summary = {**test_study.accuracy(config, effect), "test/accuracy": float(np.float32(right.mean()))}
    return {**summary, "example_scores": encode("accuracy", "split", right)} if config.test else summary


@pytest.fixture
def general(world):
    write(world.conf, finding(generalises_over=BOTH))
    world.behaviour = with_scores
    return world


@pytest.mark.slow
def test_a_study_keeps_the_scores_of_its_reporting_runs(general, capsys):
    (verdict,) = general()
    assert (verdict.state, verdict.deciding.scope) == ("supported", Scope.EXAMPLES)
    assert "over seeds and the test's 400 examples; over seeds alone [" in capsys.readouterr().out
    folder = StudyFolder(general.output / "studies" / "planted-quick")
    assert len(folder.read_example_scores()) == 16
    assert differences(folder.folder, rejudge(folder.folder, general.conf)) == []
    (second,) = general()
    assert (general.done, second) == ([], verdict)


@pytest.mark.slow
def test_a_damaged_file_decides_nothing_and_is_mended_by_the_study(general):
    (verdict,) = general()
    folder = StudyFolder(general.output / "studies" / "planted-quick")
    whole = folder.example_scores_file.read_bytes()
    folder.example_scores_file.write_bytes(whole.replace(b'"examples": 400', b'"examples": 399', 1))
    with pytest.raises(InputError, match="line 1 is damaged: restore the file"):
        rejudge(folder.folder, general.conf)
    assert general() == [verdict]
    assert folder.example_scores_file.read_bytes() == whole
    folder.example_scores_file.unlink()  # an older study, or a copy without it
    (alone,) = rejudge(folder.folder, general.conf)
    assert alone.deciding.scope is Scope.NONE_KEPT
    assert any("scope was seeds_and_examples and is no_scores" in line for line in differences(folder.folder, [alone]))
