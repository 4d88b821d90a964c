"""The requested number of validations per epoch, evenly spaced."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normlab.config.measures.training import places
from normlab.config.schema import InputError
from normlab.session.validations import Validations, check_validations


@given(st.data())
def test_exactly_as_many_as_asked_for_evenly_spaced_and_the_last_at_the_end(data):
    batches = data.draw(st.integers(1, 3000))
    count = data.draw(st.integers(1, batches))
    after = sorted(places(count, batches))
    assert len(after) == count
    assert after[-1] == batches
    gaps = [b - a for a, b in zip([0, *after], after, strict=False)]
    assert max(gaps) - min(gaps) <= 1
    assert min(gaps) >= 1


def test_lightning_validates_after_those_batches():
    trainer, after = SimpleNamespace(num_training_batches=98, val_check_batch=None), []
    for i in range(98):
        Validations(49).on_train_batch_start(trainer, None, None, i)
        if (i + 1) % trainer.val_check_batch == 0:  # as Lightning decides
            after.append(i + 1)
    assert after == list(range(2, 99, 2))


def test_more_validations_than_batches_are_refused():
    check_validations(3, 3)
    with pytest.raises(InputError, match=r"trainer\.validations=4: an epoch has 3 training batches"):
        check_validations(4, 3)
