"""The confusion matrix: counted over a whole split, kept for the best validation, also over an interruption."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from normlab.config.schema import OptimConfig, Sizes
from normlab.data.batch import Batch
from normlab.session.validation_curve import ValidationCurve
from normlab.tasks.classification import CLASSES, Classification

OPTIM = OptimConfig(name="sgd", lr=0.1, weight_decay=0.0)


def task(outputs):
    return Classification(nn.Identity(), Sizes("images", (1, 2, 2), outputs), OPTIM, {})


def evaluate(task, predicted, actual, batches=2):
    logits = nn.functional.one_hot(torch.tensor(predicted), task.sizes.outputs).float()
    targets = torch.tensor(actual)
    for some, labels in zip(logits.chunk(batches), targets.chunk(batches), strict=True):
        batch = Batch(some, labels, None, len(labels))
        task.collect(some, batch, task.losses(some, batch))
    return task.metrics("validation")


def test_rows_are_actual_and_columns_predicted_classes():
    classifier = task(3)
    metrics = evaluate(classifier, predicted=[0, 1, 1, 2, 0], actual=[0, 1, 2, 2, 2])
    assert classifier.confusion.tolist() == [[1, 0, 0], [0, 1, 0], [1, 1, 1]]
    assert metrics["accuracy"] == pytest.approx(3 / 5)


@pytest.mark.parametrize(("outputs", "counted"), [(CLASSES, True), (CLASSES + 1, False)])
def test_none_of_more_classes_than_can_be_looked_at(outputs, counted):
    classifier = task(outputs)
    evaluate(classifier, predicted=[0, 1], actual=[0, 2])
    assert (classifier.confusion is not None) == counted


def test_the_best_validation_keeps_its_own_even_if_the_run_is_interrupted():
    classifier, curve = task(2), ValidationCurve("accuracy", "max")
    for step, predicted in enumerate([[0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]], 1):
        if step == 3:
            interrupted, curve = curve.state_dict(), ValidationCurve("accuracy", "max")
            curve.load_state_dict(interrupted)
        metrics = evaluate(classifier, predicted, actual=[0, 1, 1, 1])
        values = {f"validation/{name}": value for name, value in metrics.items()}
        trainer = SimpleNamespace(
            callback_metrics={**values, "train/examples": 4 * step, "train/seconds": 1.0}, global_step=step
        )
        curve.on_validation_end(trainer, classifier)
    assert [row["validation/accuracy"] for row in curve.rows] == [0.25, 0.75, 0.75]
    assert curve.best()["step"] == 2
    assert curve.confusion.tolist() == [[1, 0], [1, 2]]
