import random

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, LearningRateMonitor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, random_split
from torchmetrics.classification import BinaryF1Score

from .unet import UNet


class Circles(Dataset):
    def __init__(self, count, size=32):
        generator = torch.Generator().manual_seed(3)
        self.centres = torch.rand(count, 2, generator=generator)
        self.noise = torch.randn(count, 1, size, size, generator=generator) * 0.5
        grid = torch.linspace(0, 1, size)
        y, x = torch.meshgrid(grid, grid, indexing="ij")
        self.masks = torch.stack([((x - a) ** 2 + (y - b) ** 2 < 0.06).float()[None] for a, b in self.centres])

    def __len__(self):
        return len(self.masks)

    def __getitem__(self, index):
        image, mask = self.masks[index] + self.noise[index], self.masks[index]
        if random.random() < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
        return image, mask


class Photos(L.LightningDataModule):
    def __init__(self, batch_size: int = 8, count: int = 96, num_workers: int = 0):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        data = Circles(self.hparams.count)
        self.train, self.val = random_split(data, [0.75, 0.25])

    def train_dataloader(self):
        return DataLoader(
            self.train,
            self.hparams.batch_size,
            shuffle=True,
            num_workers=self.hparams.num_workers,
            persistent_workers=self.hparams.num_workers > 0,
        )

    def val_dataloader(self):
        return DataLoader(self.val, self.hparams.batch_size)


class CountBatches(Callback):
    def __init__(self):
        self.batches = 0

    def on_train_batch_end(self, *_):
        self.batches += 1

    def state_dict(self):
        return {"batches": self.batches}

    def load_state_dict(self, state):
        self.batches = state["batches"]


class LitSegmenter(L.LightningModule):
    def __init__(self, width: int = 8, depth: int = 2, learning_rate: float = 3e-3):
        super().__init__()
        self.save_hyperparameters()
        self.net = UNet(width, depth)
        self.dice = BinaryF1Score()

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        images, masks = batch
        loss = F.binary_cross_entropy_with_logits(self(images), masks)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        images, masks = batch
        logits = self(images)
        self.log("val_loss", F.binary_cross_entropy_with_logits(logits, masks), prog_bar=True)
        self.dice(logits.sigmoid(), masks.int())
        self.log("val_dice", self.dice, on_epoch=True)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.learning_rate)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.hparams.learning_rate, total_steps=self.trainer.estimated_stepping_batches
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_callbacks(self):
        return [CountBatches(), LearningRateMonitor("step"), EarlyStopping("val_loss", patience=10)]
