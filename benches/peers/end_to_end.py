"""SimCLR on the first 10,000 images of Fashion-MNIST by lightly: images in, a trained encoder out.

* `end-to-end`: a round is an epoch; work is counted in images, and the answer also has the peak of memory.
* `first-step`: there is no protocol; the script prints its answer after the first step and ends, to be timed from
  outside. Its `seconds` count from the start of the process.
"""

import argparse
import time
from typing import Any

import worker

SETTINGS = {
    "end-to-end": ["lightly-default", "lightly-best"],
    "end-to-end-bf16": ["lightly-default", "lightly-best"],
    "first-step": ["lightly"],
}

IMAGES, BATCH = 10_000, 256
MEAN, STD = 0.286, 0.353


class Pretraining:
    """Data, loader and network, ready for the first step."""

    def __init__(self, options: argparse.Namespace):
        import torch
        from lightly.transforms import SimCLRTransform

        import inputs
        import simclr

        torch.set_num_threads(options.threads)
        torch.manual_seed(options.seed)
        count = worker.scaled(options, IMAGES)
        self.images, _ = inputs.fashion_mnist(options, "train", count)
        if len(self.images) < BATCH:
            raise SystemExit(f"{len(self.images)} images: {options.row} needs at least one batch of {BATCH}")
        transform = SimCLRTransform(
            input_size=28,
            min_scale=0.2,
            cj_prob=0.8,
            cj_bright=0.4,
            cj_contrast=0.4,
            cj_sat=0.0,
            cj_hue=0.0,
            random_gray_scale=0.0,
            gaussian_blur=0.0,
            normalize={"mean": [MEAN], "std": [STD]},
        )
        self.dataset = inputs.Transformed(self.images, inputs.to_pil, transform)
        self.sampler = inputs.Some(len(self.images), shuffle=True)
        self.batches = inputs.loader(self.dataset, self.sampler, BATCH, options.threads)
        # lightly's default is 32 bits.
        bfloat16 = options.row.endswith("-bf16") and options.setting == "lightly-best"
        self.method = simclr.SimClr(simclr.convnet(), channels_last=options.setting == "lightly-best", bfloat16=bfloat16)

    def epoch(self) -> int:
        """One pass over the data; returns how many images it used."""
        used, total_loss = 0, 0.0
        for x0, x1 in self.batches:
            total_loss += self.method.step(x0, x1)
            used += len(x0)
        float(total_loss)  # The documentation's loop prints the mean.
        return used

    def warm_up(self) -> None:
        """Starts the workers and takes a few steps."""
        self.sampler.count = min(2 * BATCH, len(self.images))
        self.epoch()
        self.sampler.count = len(self.images)


def end_to_end(options: argparse.Namespace) -> worker.Round:
    """Epochs, each timed."""
    run = Pretraining(options)
    run.warm_up()

    def one_round() -> dict[str, Any]:
        started = time.perf_counter()
        used = run.epoch()
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "work": float(used), **worker.memory()}

    return one_round


def first_step(options: argparse.Namespace) -> None:
    """What a user waits for after starting the script: imports, data, network and one step."""
    run = Pretraining(options)
    x0, x1 = next(iter(run.batches))
    float(run.method.step(x0, x1))
    worker.reply(options, {"seconds": worker.seconds_since_start(), "work": 1.0, **worker.memory()})
    raise SystemExit(0)


def prepare(options: argparse.Namespace) -> worker.Round:
    """The row's own way to prepare."""
    return {"end-to-end": end_to_end, "end-to-end-bf16": end_to_end, "first-step": first_step}[options.row](options)


if __name__ == "__main__":
    worker.serve(SETTINGS, prepare)
