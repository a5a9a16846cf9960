"""A method of lightly's, pretrained for a given time; the features that came of it, for `selfsup eval --features`.

Data, views, encoder, batch size and schedule are those of our recipe of the same method (`methods.py`). A trial
measures the rate of steps first, and tells how many the budget holds; the schedule is made for that number. Into
`--out` go `train.npy`, `test.npy`, `train_labels.npy`, `test_labels.npy` (features of the images as they are, and their
classes) and, last, `log.json`.

`--data` is a folder with Fashion-MNIST's IDX files, or with `fashion-mnist/` in it; or a folder with `train.npy` and
`test.npy` (bytes `[N, H, W]` or `[N, H, W, 3]`) and their `_labels.npy`, or the path of its `train.npy`.
"""

import argparse
import importlib.metadata
import json
import math
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import worker

# Of Fashion-MNIST's training images, as our recipes have it for all data.
MEAN, STD = 0.286, 0.353
# `list(methods.METHODS)`, which is known only when torch has been imported.
NAMES = ["simclr", "moco-v2", "byol", "simsiam", "barlow-twins", "vicreg", "swav", "dino", "mae"]
PACKAGES = ["torch", "torchvision", "lightly", "timm", "numpy", "pillow"]


def parse() -> argparse.Namespace:
    """The command line, checked."""
    parser = worker.Parser(description=__doc__.partition("\n")[0])
    parser.add_argument("--method", choices=NAMES, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder or train.npy of the images")
    parser.add_argument("--out", type=Path, required=True, help="folder for features and log")
    parser.add_argument("--budget", type=float, help="seconds of pretraining")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=float, help="so many epochs, or parts of one, in place of a budget")
    length.add_argument("--steps", type=int, help="so many steps in place of a budget")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="torch's threads, and the loader's workers")
    parser.add_argument("--limit", type=int, default=10_000, help="how many training images are used")
    parser.add_argument("--setting", choices=["recipe", "documentation"], help="in place of the better one")
    parser.add_argument(
        "--held-out",
        action="store_true",
        help="judge by the training images after those that are used, instead of the test part: to choose settings",
    )
    options = parser.parse_args()
    given = [value for value in (options.budget, options.epochs, options.steps) if value is not None]
    if not given or min(given) <= 0:
        parser.error("--budget, --epochs or --steps is needed, above 0")
    if options.threads < 1 or options.limit < 1:
        parser.error("--threads and --limit are at least 1")
    return options


@dataclass
class Data:
    """Images as bytes, `[N, H, W]` or `[N, H, W, 3]`, and their classes `[N]`."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray

    @staticmethod
    def read(options: argparse.Namespace) -> "Data":
        """The first `--limit` training images, all that are there to judge by."""
        train, train_labels = read_part(options.data, "train", "train")
        chosen = first(train_labels, options.limit)
        if options.held_out:
            rest = np.setdiff1d(np.arange(len(train)), chosen)[: len(chosen)]
            test, test_labels = train[rest], train_labels[rest]
        else:
            test, test_labels = read_part(options.data, "test", "t10k")
        data = Data(train[chosen], train_labels[chosen], test, test_labels)
        if not len(data.test):
            sys.exit(f"{options.data}: no images are left to judge by")
        return data

    @property
    def channels(self) -> int:
        """Of an image: 1 or 3."""
        return 1 if self.train.ndim == 3 else self.train.shape[-1]


def read_part(path: Path, npy: str, idx: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of a part, from the arrays or the IDX files of that name."""
    import inputs

    folder = path.parent if path.suffix == ".npy" else path
    if (folder / "train.npy").exists():
        files = [folder / f"{npy}.npy", folder / f"{npy}_labels.npy"]
        for file in files:
            if not file.exists():
                sys.exit(f"{file} is missing: a set of arrays has train.npy, test.npy and labels of both")
        images, labels = (np.load(file, allow_pickle=False) for file in files)
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
            sys.exit(f"{files[0]}: {images.dtype} {images.shape}; uint8 [N, H, W] or [N, H, W, 3] is needed")
    else:
        folder = folder / "fashion-mnist" if (folder / "fashion-mnist").is_dir() else folder
        images = inputs.idx(folder, f"{idx}-images-idx3-ubyte")
        labels = inputs.idx(folder, f"{idx}-labels-idx1-ubyte")
        if images is None or labels is None:
            sys.exit(f"{folder}: found neither train.npy nor {idx}-images-idx3-ubyte and its labels")
    if labels.shape != images.shape[:1]:
        sys.exit(f"{folder}: labels {labels.shape} for {len(images)} images of the part {npy}")
    return images, labels.astype(np.int64)


def first(labels: np.ndarray, limit: int) -> np.ndarray:
    """The first samples; where they lie sorted by class, every so manyth, as our program takes them."""
    if limit >= len(labels):
        return np.arange(len(labels))
    if (np.diff(labels) >= 0).all():
        return np.arange(limit) * len(labels) // limit
    return np.arange(limit)


class Run:
    """A pretraining of `steps`, ready for the first."""

    def __init__(self, options: argparse.Namespace, data: Data, steps: int):
        import torch

        import inputs
        import methods

        torch.manual_seed(options.seed)
        kind = methods.METHODS[options.method]
        self.setting_name = options.setting or kind.chosen
        self.setting = kind.settings[self.setting_name]
        normalize = {"mean": [MEAN] * data.channels, "std": [STD] * data.channels}
        self.dataset = inputs.Transformed(data.train, inputs.to_pil, kind.transform(normalize))
        self.sampler = inputs.Some(len(data.train), shuffle=True)
        self.batches = inputs.loader(self.dataset, self.sampler, kind.batch, options.threads)
        if not len(self.batches):
            sys.exit(f"{len(data.train)} training images: {options.method} needs at least one batch of {kind.batch}")
        self.method = kind(data.channels, **self.setting.constants)
        self.optimizer = self.setting.optimizer(groups(self.method))
        self.steps, self.batch = steps, kind.batch
        self.schedule = schedule(self.optimizer, steps)

    def forever(self) -> Iterator[list[Any]]:
        """Epoch after epoch of views."""
        while True:
            yield from self.batches

    def step(self, views: list[Any], step: int) -> Any:
        """One update; returns the loss."""
        import torch
        from lightly.utils.scheduler import cosine_schedule

        import methods

        now = methods.Moment(step, self.steps, len(self.batches))
        loss = self.method.loss(views, now)
        loss.backward()
        self.method.after_backward(now)
        if self.setting.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.method.parameters(), self.setting.clip)
        if self.setting.final_weight_decay is not None:
            for group in self.optimizer.param_groups:
                if group["decayed"]:
                    start = self.optimizer.defaults["weight_decay"]
                    group["weight_decay"] = cosine_schedule(step, self.steps, start, self.setting.final_weight_decay)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        return loss.detach()

    def train(self) -> dict[str, Any]:
        """All steps; returns what the log tells of them."""
        per_epoch, losses, total = len(self.batches), [], 0.0
        started = time.perf_counter()
        views = self.forever()
        for step in range(self.steps):
            total = total + self.step(next(views), step)
            begun = step % per_epoch + 1
            if begun == per_epoch or step + 1 == self.steps:
                losses.append(float(total) / begun)
                total = 0.0
                if not math.isfinite(losses[-1]):
                    sys.exit(f"the loss is {losses[-1]} after {step + 1} steps")
                print(f"step {step + 1} of {self.steps}: loss {losses[-1]:.4f}", file=sys.stderr)
        seconds = time.perf_counter() - started
        # While the loader's workers are there to be counted.
        memory = worker.memory()
        return {
            "steps": self.steps,
            "epochs": self.steps / per_epoch,
            "batch_size": self.batch,
            "seconds": seconds,
            "samples_per_second": self.steps * self.batch / seconds,
            "peak_megabytes": memory["peak_unshared_bytes"] / 1e6,
            "losses": losses,
        }

    def rate(self, seconds: float) -> float:
        """Steps a second, over at least so many seconds and ten steps."""
        views = self.forever()
        # Threads and workers start, and what the workers made ahead is used up.
        for step in range(2 * self.batches.num_workers + 4):
            self.step(next(views), step)
        started, done = time.perf_counter(), 0
        while done < 10 or time.perf_counter() - started < seconds:
            self.step(next(views), done)
            done += 1
        return done / (time.perf_counter() - started)


def groups(method: Any) -> list[dict]:
    """Parameters that learn: decayed or not, with a rate that changes or stays."""
    from lightly.models.utils import get_weight_decay_parameters

    fixed = {id(parameter) for module in method.fixed() for parameter in module.parameters()}
    found = []
    for decayed, parameters in zip((True, False), get_weight_decay_parameters([method]), strict=True):
        for stays in (False, True):
            some = [p for p in parameters if p.requires_grad and (id(p) in fixed) == stays]
            if some:
                group = {"params": some, "decayed": decayed, "fixed": stays}
                found.append(group if decayed else group | {"weight_decay": 0.0})
    return found


def schedule(optimizer: Any, steps: int) -> Any:
    """lightly's cosine after a linear rise over a tenth of the run, step by step."""
    from lightly.utils.scheduler import cosine_warmup_schedule
    from torch.optim.lr_scheduler import LambdaLR

    def share(step: int) -> float:
        return cosine_warmup_schedule(min(step, steps), steps, 1.0, 0.0, steps // 10, 0.0)

    return LambdaLR(optimizer, [(lambda _: 1.0) if g["fixed"] else share for g in optimizer.param_groups])


def features(method: Any, images: np.ndarray) -> np.ndarray:
    """What the encoder makes of images without augmentation, of the size of a view: `[N, D]`."""
    import torch
    from torchvision import transforms as T

    import inputs
    import methods

    channels = 1 if images.ndim == 3 else images.shape[-1]
    plain = T.Compose(
        [
            T.Resize(methods.SIZE),
            T.CenterCrop(methods.SIZE),
            T.ToTensor(),
            T.Normalize([MEAN] * channels, [STD] * channels),
        ]
    )
    method.eval()
    found = []
    with torch.no_grad():
        for start in range(0, len(images), 500):
            x = torch.stack([plain(inputs.to_pil(image)) for image in images[start : start + 500]])
            found.append(method.backbone(x))
    return torch.cat(found).numpy()


def steps_of(options: argparse.Namespace, data: Data) -> int:
    """The steps that the command line asks for, or that its budget holds."""
    import methods

    if options.steps is not None:
        return options.steps
    if options.epochs is not None:
        steps_per_epoch = len(data.train) // methods.METHODS[options.method].batch
        return max(1, round(options.epochs * steps_per_epoch))
    # In a process of its own: what a trial leaves behind in memory would count as the run's.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        rate = pool.submit(trial, options, data).result()
    return max(1, round(options.budget * rate))


def trial(options: argparse.Namespace, data: Data) -> float:
    """Steps a second."""
    import torch

    torch.set_num_threads(options.threads)
    run = Run(options, data, 1000)
    rate = run.rate(max(2.0, options.budget / 10))
    print(f"{rate * run.batch:.0f} images a second in the trial", file=sys.stderr)
    return rate


def main() -> None:
    """Reads, pretrains, writes."""
    options = parse()
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    data = Data.read(options)
    options.out.mkdir(parents=True, exist_ok=True)
    log_file = options.out / "log.json"
    log_file.unlink(missing_ok=True)

    import torch

    torch.set_num_threads(options.threads)
    run = Run(options, data, steps_of(options, data))
    told = run.train()
    arrays = {
        "train": features(run.method, data.train),
        "test": features(run.method, data.test),
        "train_labels": data.train_labels,
        "test_labels": data.test_labels,
    }
    for name, array in arrays.items():
        np.save(options.out / f"{name}.npy", array)
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    log = {
        "method": options.method,
        "setting": run.setting_name,
        "seed": options.seed,
        "threads": options.threads,
        "budget": options.budget,
        **told,
        "versions": {"python": platform.python_version(), **versions},
    }
    log_file.write_text(json.dumps(log, indent=2) + "\n")


if __name__ == "__main__":
    main()
