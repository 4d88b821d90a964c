"""Runs of two arms, logged by the real loggers where they are installed, and MLflow's file store by hand."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

N = 10
WANDB = """
import json, sys, wandb
runs, folder = json.loads(sys.argv[1]), sys.argv[2]
settings = wandb.Settings(x_disable_stats=True, console="off", silent=True)
for config, curve in runs:
    with wandb.init(project="p", config=config, dir=folder, settings=settings) as run:
        for value in curve:
            run.log({"val/acc": value, "loss": 1.0})
"""


def curves(n=N, effect=1.0):
    """(arm, seed, curve) of two arms; the last value is neither the largest nor the smallest."""
    rng = np.random.default_rng(0)
    for seed in range(n):
        shared, noise = rng.normal(0, 3), rng.normal(0, 0.1, 2)
        for arm, shift in (("layer", effect), ("batch", 0.0)):
            last = float(np.float32(shared + shift + noise[int(arm == "batch")]))
            yield arm, seed, [last - 2, last + 2, last]


def wandb_offline(folder: Path, n=N):
    import json

    runs = [({"norm": arm, "seed": seed, "optim": {"lr": 0.1}}, curve) for arm, seed, curve in curves(n)]
    folder.mkdir()
    environment = {
        **os.environ,
        "WANDB_MODE": "offline",
        "WANDB_CONFIG_DIR": str(folder),
        "WANDB_CACHE_DIR": str(folder),
    }
    subprocess.run(
        [sys.executable, "-c", WANDB, json.dumps(runs), str(folder)], env=environment, check=True, timeout=200
    )


def wandb_online(folder: Path):
    """As the client leaves them without a `.wandb` file."""
    import json

    for arm, seed, curve in curves():
        files = folder / "wandb" / f"run-20260101_0000{seed:02}-{arm}{seed}" / "files"
        files.mkdir(parents=True)
        (files / "wandb-summary.json").write_text(json.dumps({"val/acc": curve[-1], "_step": 2}))
        (files / "config.yaml").write_text(f"_wandb:\n  value: {{}}\nnorm:\n  value: {arm}\nseed:\n  value: {seed}\n")


def tensorboard(folder: Path):
    from torch.utils.tensorboard import SummaryWriter

    for arm, seed, curve in curves():
        with SummaryWriter(folder / f"{arm}_{seed}") as writer:
            for step, value in enumerate(curve):
                writer.add_scalar("val/acc", value, step)
                writer.add_text("note", "text is no metric", step)
            writer.add_hparams({"norm": arm, "seed": seed, "lr": 0.1}, {})


def lightning(folder: Path):
    from pytorch_lightning.loggers import CSVLogger

    for arm, seed, curve in curves():
        logger = CSVLogger(folder, version=f"{arm}-{seed}")
        logger.log_hyperparams({"norm": arm, "seed": seed})
        for step, value in enumerate(curve):
            logger.log_metrics({"val/acc": value}, step)
            logger.log_metrics({"train_loss": 1.0}, step)
        logger.finalize("success")


def mlflow(folder: Path):
    for number, (arm, seed, curve) in enumerate(curves()):
        run = folder / "0" / f"{number:032x}"
        for part in ("metrics/val", "params", "tags"):
            (run / part).mkdir(parents=True)
        (run / "meta.yaml").write_text(f"run_id: {run.name}\nrun_name: calm-{number}\nlifecycle_stage: active\n")
        (run / "metrics" / "val" / "acc").write_text("".join(f"17{i} {v!r} {i}\n" for i, v in enumerate(curve)))
        (run / "params" / "norm").write_text(arm)
        (run / "params" / "seed").write_text(str(seed))
        (run / "tags" / "mlflow.runName").write_text(f"calm-{number}")
    (folder / "0" / "meta.yaml").write_text("experiment_id: '0'\nname: Default\n")
