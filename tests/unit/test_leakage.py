"""Partners, and networks that can or can't know them."""

import torch
from torch import nn

from norm_sites import config
from normlab.config.schema import Sizes
from normlab.data.batch import Batch
from normlab.measures.leakage import accuracy, of_partner
from normlab.models.build import factory
from normlab.models.cnn import CNN


def batch(count: int = 6, seed: int = 0) -> Batch:
    """Constant images, whose class is their brightness: a statistic of a pair gives the partner away."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(3, (count,), generator=generator)
    noise = 0.1 * torch.randn(count, 1, 8, 8, generator=generator)
    return Batch(targets.float().view(-1, 1, 1, 1) + noise, targets, None, count)


def test_partners_are_neighbours():
    made = Batch(torch.zeros(5, 1), torch.tensor([5, 6, 7, 8, 9]), None, 5)
    assert of_partner(made).targets.tolist() == [6, 5, 8, 7, 9]
    assert made.targets.tolist() == [5, 6, 7, 8, 9]
    assert of_partner(of_partner(made)).targets.tolist() == made.targets.tolist()


def test_accuracy_is_the_share_of_right_answers():
    class Own(nn.Module):
        def forward(self, inputs, mask):
            return nn.functional.one_hot(inputs.mean((1, 2, 3)).round().long().clamp(0, 2), 3).float()

    made = batch(64)
    assert accuracy(Own(), iter([made])) == 1.0
    right = (of_partner(made).targets == made.targets).double().mean()
    assert accuracy(Own(), iter([of_partner(made)])) == float(right)


def learnt(norm: str, **options) -> tuple[float, float]:
    """Accuracy in training and in eval mode after a little training on pairs."""
    torch.manual_seed(0)
    model = CNN(factory({**config(norm), **options}), Sizes("images", (1, 8, 8), 3), width=8, stages=1)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for seed in range(120):
        made = of_partner(batch(32, seed))
        loss = nn.functional.cross_entropy(model(made.inputs), made.targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    fresh = [of_partner(batch(256, 1000))]
    evaluated = accuracy(model.eval(), iter(fresh))
    return accuracy(model.train(), iter(fresh)), evaluated


def test_shared_statistics_give_the_partner_away_in_training_alone():
    trained, evaluated = learnt("batch", nbs=2)
    assert trained > 0.65
    assert evaluated < 0.5


def test_without_shared_statistics_there_is_only_chance():
    trained, evaluated = learnt("layer")
    assert trained == evaluated < 0.5
