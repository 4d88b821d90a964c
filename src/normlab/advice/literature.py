"""What the literature says where normlab has measured nothing. It is cited, and never counted as evidence of ours."""

from __future__ import annotations

from normlab.findings.advice import Model, When

LITERATURE: dict[tuple[Model, When], str] = {
    (
        "cnn",
        "segmentation",
    ): "Group norm: on ImageNet with 2 images per worker its error is 10.6 points lower than "
    "batch norm's, and it carries over to detection and segmentation (Wu and He 2018, 1803.08494).",
    (
        "vit",
        "pretraining",
    ): "Layer norm before each block: batch norm in its place crashes a ViT unless the feed-forward "
    "part gets another one, and then is on par and about 20 % faster (Yao et al. 2021). DyT instead of layer norm: "
    "82.5 compared with 82.3 % for ViT-B (Zhu et al. 2025, 2503.10622).",
    ("transformer", "small_data"): "Layer norm or a scaled l2 norm before each block: +1.1 BLEU on average over strong "
    "baselines on five small translation sets (Nguyen and Salazar 2019, 1910.05895).",
    (
        "cnn",
        "evaluation_gap",
    ): "Batch norm's running statistics differ from the batches it was trained with where these "
    "are small or not drawn independently: batch renorm (Ioffe 2017, 1702.03275), or recompute the statistics before "
    "evaluation (Wu and Johnson 2021, 2105.07576).",
    ("lstm", "variable_lengths"): "Layer norm: recurrent networks benefit most on long sequences and small batches "
    "(Ba et al. 2016, 1607.06450).",
    ("cnn", "inference_time"): "Batch norm folds into the convolution before it and then costs nothing in inference; "
    "layer norm can't.",
}
