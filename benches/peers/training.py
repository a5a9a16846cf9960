"""Steps of SimCLR on given batches: forward, backward and update, no loading of data.

Work is counted in images for `step-convnet`, each seen in two views, and in views for the other rows.
"""

import argparse

import worker
from losses import COMPILE

SETTINGS = {
    "step-convnet": ["eager", "channels-last", *COMPILE, *(f"{name}-channels-last" for name in COMPILE)],
    "step-resnet18": ["eager", "channels-last", *COMPILE, *(f"{name}-channels-last" for name in COMPILE)],
    "step-vit-tiny": ["eager", *COMPILE],
}
# The same with the products in bfloat16.
SETTINGS |= {f"{row}-bf16": settings for row, settings in SETTINGS.items()}

SECONDS = 2.0


def prepare(options: argparse.Namespace) -> worker.Round:
    """The row's step on fixed normal images, repeated."""
    import torch

    import simclr

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    network, shape, unit = {
        "step-convnet": (simclr.convnet, (256, 1, 28, 28), 256),
        "step-resnet18": (simclr.resnet18, (32, 3, 32, 32), 64),
        "step-vit-tiny": (simclr.vit_tiny, (32, 3, 32, 32), 64),
    }[options.row.removesuffix("-bf16")]
    method = simclr.SimClr(
        network(),
        channels_last="channels-last" in options.setting,
        compiled="compile" in options.setting,
        bfloat16=options.row.endswith("-bf16"),
    )
    x0, x1 = (torch.randn(shape).to(memory_format=method.format) for _ in range(2))
    steps = worker.repeated(options, lambda: method.step(x0, x1), SECONDS)

    def one_round() -> dict[str, float]:
        answer = steps()
        return {**answer, "work": answer["work"] * unit}

    return one_round


if __name__ == "__main__":
    worker.serve(SETTINGS, prepare)
