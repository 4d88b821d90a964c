"""Lightning projects that show what several processes do with them, or go wrong in one of them."""

import hashlib
import json
import os
import random
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Subset, WeightedRandomSampler, random_split

from lightning_variants import Gan, WithLoaders, data


def rank():
    return int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0)


class Told(Dataset):
    """Examples that say which they are, and what was drawn for them."""

    def __init__(self, count=40):
        self.data = data(count)

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        x, y = self.data[i]
        drawn = torch.tensor([i, random.random(), float(np.random.rand()), float(torch.rand(()))], dtype=torch.float64)
        return x + 0.01 * drawn[3].float(), y, drawn


class Witness(WithLoaders):
    """Writes down what each process is given and ends with; each logs another value."""

    def __init__(self, workers: int = 0, sampler: str = "shuffle", lr: float = 1e-2):
        super().__init__(lr)
        self.workers, self.sampler = workers, sampler

    def setup(self, stage):
        self.train_part, self.val_part = random_split(Told(), [0.6, 0.4])  # 24 and 16

    def note(self, kind, *values):
        if self.trainer.limit_val_batches != 2:  # not in normlab's trial
            with (Path(os.environ["WITNESS"]) / f"{kind}-{rank()}").open("a") as file:
                file.write(json.dumps(values) + "\n")

    def training_step(self, batch, i):
        x, y, drawn = batch
        self.note("train", self.current_epoch, drawn.tolist())
        return F.cross_entropy(self.net(x), y)

    def validation_step(self, batch, i):
        x, _, drawn = batch
        self.note("val", self.current_epoch, drawn.tolist())
        self.net(x)
        self.log("val/acc", float(self.current_epoch == 1) + 0.25 * rank() * self.current_epoch)

    def on_train_end(self):
        weights = b"".join(p.detach().numpy().tobytes() for p in self.parameters())
        self.note("end", hashlib.sha256(weights).hexdigest(), self.optimizers().param_groups[0]["lr"])

    def configure_optimizers(self):
        optimiser = torch.optim.SGD(self.parameters(), self.lr)
        # after the validations: 0, 0 | 1, 1.25 | 0, 0.5 | 0, 0.75
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, mode="max", patience=0)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "monitor": "val/acc"}}

    def train_dataloader(self):
        if self.sampler == "weighted":
            sampler = WeightedRandomSampler([1.0] * 24, 24, replacement=False)
            return DataLoader(self.train_part, 4, sampler=sampler, num_workers=self.workers)
        if self.sampler == "own":
            return DataLoader(self.train_part, 4, sampler=DistributedSampler(self.train_part, seed=5))
        return DataLoader(self.train_part, 4, shuffle=True, num_workers=self.workers)

    def val_dataloader(self):
        return DataLoader(self.val_part, 4)


class Whole(WithLoaders):
    """Each step has all examples, so that it doesn't matter how they are ordered."""

    def __init__(self, batch_size: int, lr: float = 1e-1):
        super().__init__(lr)
        self.batch_size = batch_size

    def train_dataloader(self):
        return DataLoader(data(24), self.batch_size, shuffle=True)


class Unused(WithLoaders):
    """A part of the network that the loss doesn't see; with `late`, only from the second epoch on."""

    def __init__(self, late: bool = False, lr: float = 1e-2):
        super().__init__(lr)
        self.late, self.extra = late, nn.Linear(2, 2)

    def training_step(self, batch, i):
        x, y = batch
        used = self.late and self.current_epoch == 0
        return F.cross_entropy(self.extra(self.net(x)) if used else self.net(x), y)


class Synced(Gan):
    """Its metric is the same in all processes."""

    def validation_step(self, batch, i):
        (real,) = batch
        fake = self.generator(torch.ones(len(real), 4))
        self.log("distance", (fake.mean(0) - real.mean(0)).norm(), sync_dist=True)


class Fails(WithLoaders):
    """Ends in one process, in one step."""

    def __init__(self, where: int, how: str = "raise", step: int = 4, lr: float = 1e-2):
        super().__init__(lr)
        self.where, self.how, self.step = where, how, step

    def training_step(self, batch, i):
        if rank() == self.where and self.global_step == self.step:
            if self.how == "raise":
                raise KeyError("mask")
            os._exit(0)
        return super().training_step(batch, i)


class FailsInTrial(WithLoaders):
    def validation_step(self, batch, i):
        if rank() == 1:
            raise KeyError("mask")
        super().validation_step(batch, i)


class Uneven(WithLoaders):
    """Its own sampler gives the first process more batches."""

    def train_dataloader(self):
        own = Subset(data(48), range(32) if rank() == 0 else range(16))

        class All(DistributedSampler):
            def __iter__(self):
                return iter(range(len(own)))

            def __len__(self):
                return len(own)

        return DataLoader(own, 4, sampler=All(own))


class OneLogs(WithLoaders):
    """The first process alone logs the metric."""

    def validation_step(self, batch, i):
        x, y = batch
        if self.trainer.is_global_zero:
            self.log("val/acc", (self.net(x).argmax(1) == y).float().mean(), rank_zero_only=True)


class Fills(pl.LightningDataModule):
    """Its constructor writes to the folder that it reads, before the other processes start."""

    def __init__(self, folder: str):
        super().__init__()
        self.file = Path(folder) / "data.pt"
        if not self.file.exists():
            torch.save(data().tensors, self.file)

    def train_dataloader(self):
        return DataLoader(torch.utils.data.TensorDataset(*torch.load(self.file)), 8, shuffle=True)

    def val_dataloader(self):
        return DataLoader(torch.utils.data.TensorDataset(*torch.load(self.file)), 8)
