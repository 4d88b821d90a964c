"""Lightning projects of many kinds, in one file."""

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset


def data(count=48):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(count, 3, 8, 8, generator=g)
    return TensorDataset(x, (x.mean((1, 2, 3)) > 0).long())


def net(width=8):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 2),
    )


class WithLoaders(pl.LightningModule):
    """Has its own loaders."""

    def __init__(self, lr=1e-2):
        super().__init__()
        self.lr = lr
        self.net = self.make()

    def make(self):
        return net()

    def training_step(self, batch, i):
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def validation_step(self, batch, i):
        x, y = batch
        self.log("val/acc", (self.net(x).argmax(1) == y).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.lr)

    def train_dataloader(self):
        return DataLoader(data(), 8, shuffle=True)

    def val_dataloader(self):
        return DataLoader(data(), 16)


class BuiltInSetup(WithLoaders):
    def make(self):
        return None

    def setup(self, stage):
        if self.net is None:
            self.net = net()


class BuiltInConfigureModel(WithLoaders):
    def make(self):
        return None

    def configure_model(self):
        if self.net is None:
            self.net = net()


class Forgetful(WithLoaders):
    """Builds anew at each call."""

    def make(self):
        return None

    def configure_model(self):
        self.net = net()


class Lazy(WithLoaders):
    def make(self):
        made = nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
        made(torch.randn(2, 3, 8, 8))
        return made


class Gan(pl.LightningModule):
    """Manual optimisation, two optimisers, gradients accumulated by hand."""

    def __init__(self, learning_rate: float = 1e-2):
        super().__init__()
        self.automatic_optimization = False
        self.learning_rate = learning_rate
        self.generator = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8))
        self.critic = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 1))

    def training_step(self, batch, i):
        (real,) = batch
        first, second = self.optimizers()
        fake = self.generator(torch.randn(len(real), 4, device=self.device))
        loss = F.softplus(-self.critic(fake)).mean()
        self.manual_backward(loss / 2)
        if (i + 1) % 2 == 0:
            first.step()
            first.zero_grad()
        second.zero_grad()
        both = F.softplus(-self.critic(real)).mean() + F.softplus(self.critic(fake.detach())).mean()
        self.manual_backward(both)
        second.step()
        self.log_dict({"g_loss": loss, "d_loss": both})

    def validation_step(self, batch, i):
        (real,) = batch
        fake = self.generator(torch.ones(len(real), 4))
        self.log("distance", (fake.mean(0) - real.mean(0)).norm())

    def configure_optimizers(self):
        return torch.optim.Adam(self.generator.parameters(), self.learning_rate), torch.optim.Adam(
            self.critic.parameters(), self.learning_rate
        )

    def train_dataloader(self):
        return DataLoader(
            TensorDataset(torch.randn(48, 8, generator=torch.Generator().manual_seed(1)) + 1), 8, shuffle=True
        )

    def val_dataloader(self):
        return self.train_dataloader()


class Several(WithLoaders):
    """Two training loaders of different lengths."""

    def training_step(self, batch, i):
        (x, y), (z, w) = batch["a"], batch["b"]
        return F.cross_entropy(self.net(torch.cat([x, z])), torch.cat([y, w]))

    def train_dataloader(self):
        return {"a": DataLoader(data(), 8, shuffle=True), "b": DataLoader(data(24), 8, shuffle=True)}


class Stream(IterableDataset):
    def __iter__(self):
        yield from data()


class Streamed(WithLoaders):
    def train_dataloader(self):
        return DataLoader(Stream(), 8)


class Random(WithLoaders):
    """Data from outside the seed's reach."""

    def train_dataloader(self):
        import os

        g = torch.Generator().manual_seed(int.from_bytes(os.urandom(4), "big"))
        return DataLoader(TensorDataset(torch.randn(48, 3, 8, 8, generator=g), torch.zeros(48).long()), 8)


class NoNorms(WithLoaders):
    def make(self):
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 2))


class OneByOne(WithLoaders):
    def make(self):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))


class NoValidation(WithLoaders):
    val_dataloader = pl.LightningModule.val_dataloader


class NothingLogged(WithLoaders):
    def validation_step(self, batch, i):
        pass


class Broken(WithLoaders):
    def validation_step(self, batch, i):
        raise KeyError("mask")


class Diverges(WithLoaders):
    def training_step(self, batch, i):
        return super().training_step(batch, i) * (float("nan") if self.global_step > 7 else 1.0)


class Pictures(WithLoaders):
    def validation_step(self, batch, i):
        super().validation_step(batch, i)
        self.logger.experiment.add_image("x", batch[0][0], self.global_step)
        self.logger.log_image(key="x", images=[batch[0][0]])


class Files(pl.LightningDataModule):
    """Data in a file that an argument names."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def train_dataloader(self):
        return DataLoader(torch.load(self.path), 8)

    def val_dataloader(self):
        return DataLoader(torch.load(self.path), 8)


class Plateau(WithLoaders):
    """A schedule that follows the metric."""

    def configure_optimizers(self):
        optimiser = torch.optim.SGD(self.parameters(), self.lr)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, mode="max", patience=0)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "monitor": "val/acc"}}


class TwoValidations(WithLoaders):
    """Two validation loaders, so Lightning adds their numbers to the metric's name."""

    def val_dataloader(self):
        return [DataLoader(data(), 16), DataLoader(data(24), 16)]

    def validation_step(self, batch, i, dataloader_idx=0):
        super().validation_step(batch, i)


class OnEpochs(WithLoaders):
    """Logs for the progress bar, once an epoch."""

    def training_step(self, batch, i):
        loss = super().training_step(batch, i)
        self.log("train/loss", loss, prog_bar=True, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, i):
        x, y = batch
        hits = (self.net(x).argmax(1) == y).float().mean()
        self.log("val/acc", hits, prog_bar=True, on_step=False, on_epoch=True)


class OwnCallbacks(WithLoaders):
    """Stops early and keeps checkpoints of its own."""

    def configure_callbacks(self):
        keeps = ModelCheckpoint(monitor="val/acc", mode="max", save_last=True)
        return [EarlyStopping("val/acc", patience=2, mode="max"), keeps]


class Needs(WithLoaders):
    """Can't be built without arguments, one of them a whole config."""

    def __init__(self, width: int, config: dict, lr: float = 1e-2):
        super().__init__(lr)
        self.save_hyperparameters()
        self.net = net(width * config["factor"])
