"""Views of images for self-supervised learning: lightly, torchvision and Albumentations behind PyTorch's DataLoader.

A round is one pass over a fixed number of images; work is counted in views, in `decode-224` in images.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import worker

SETTINGS = {
    "views-32": ["lightly-default", "torchvision-v2", "albumentations"],
    "views-32-blur": ["lightly-default", "torchvision-v2", "albumentations"],
    "views-224": ["lightly-default", "torchvision-v2", "albumentations"],
    "multi-crop": ["lightly-default", "torchvision-v2", "albumentations"],
    "decode-224": ["pillow", "torchvision"],
}

# SimCLR's colours: brightness, contrast, saturation, hue; how often; how often grey; the blur's standard deviations.
JITTER, JITTER_P, GREY_P, SIGMAS = (0.8, 0.8, 0.8, 0.2), 0.8, 0.2, (0.1, 2.0)
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@dataclass
class Crop:
    """`count` views of `size` pixels a side, each from a random part of the image of a share of `scale`."""

    size: int
    scale: tuple[float, float]
    count: int


@dataclass
class Row:
    """What a round of a row does: two to four seconds of work for two cores."""

    images: int
    batch: int
    crops: list[Crop]
    blur: float = 0.5


ROWS = {
    "views-32": Row(2048, 256, [Crop(32, (0.2, 1.0), 2)], blur=0.0),
    "views-32-blur": Row(2048, 256, [Crop(32, (0.2, 1.0), 2)]),
    "views-224": Row(192, 8, [Crop(224, (0.08, 1.0), 2)]),
    "multi-crop": Row(96, 4, [Crop(224, (0.25, 1.0), 2), Crop(96, (0.05, 0.25), 6)]),
    "decode-224": Row(3072, 32, []),
}

# Settings whose rounds have so many times more images, lest they be too short to time.
FASTER = {"albumentations": 4}


def lightly_views(row: Row) -> Callable:
    """lightly's own transforms with their defaults but for the crops and the blur."""
    from lightly.transforms import SimCLRTransform
    from lightly.transforms.swav_transform import SwaVTransform

    if len(row.crops) == 1:
        crop = row.crops[0]
        return SimCLRTransform(input_size=crop.size, min_scale=crop.scale[0], gaussian_blur=row.blur)
    return SwaVTransform(
        crop_sizes=tuple(crop.size for crop in row.crops),
        crop_counts=tuple(crop.count for crop in row.crops),
        crop_min_scales=tuple(crop.scale[0] for crop in row.crops),
        crop_max_scales=tuple(crop.scale[1] for crop in row.crops),
        gaussian_blur=row.blur,
    )


def torchvision_views(row: Row) -> Callable:
    """torchvision's second transforms on tensors of bytes, in the order that its documentation finds fastest."""
    import torch
    from torchvision.transforms import v2

    def view(crop: Crop) -> Callable:
        steps = [
            v2.RandomResizedCrop(crop.size, scale=crop.scale, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(*JITTER)], p=JITTER_P),
            v2.RandomGrayscale(GREY_P),
        ]
        if row.blur:
            kernel = max(3, crop.size // 10 | 1)  # SimCLR's: a tenth of the side, odd.
            steps.append(v2.RandomApply([v2.GaussianBlur(kernel, SIGMAS)], p=row.blur))
        return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])

    views = [view(crop) for crop in row.crops for _ in range(crop.count)]
    return lambda image: [view(image) for view in views]


def albumentations_views(row: Row) -> Callable:
    """The same steps by Albumentations, on OpenCV (which crops and resizes without antialiasing)."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations as A
    from albumentations.pytorch import ToTensorV2

    def view(crop: Crop) -> Callable:
        steps = [
            A.RandomResizedCrop(size=(crop.size, crop.size), scale=crop.scale),
            A.HorizontalFlip(p=0.5),
            A.ColorJitter(*JITTER, p=JITTER_P),
            A.ToGray(p=GREY_P),
        ]
        if row.blur:
            steps.append(A.GaussianBlur(sigma_limit=SIGMAS, p=row.blur))
        return A.Compose([*steps, A.Normalize(MEAN, STD), ToTensorV2()])

    views = [view(crop) for crop in row.crops for _ in range(crop.count)]
    return lambda image: [view(image=image)["image"] for view in views]


def source(options: argparse.Namespace) -> tuple[Any, Callable]:
    """The row's images, and how the setting gets one in the form that its transforms take."""
    import torch
    from torchvision.io import ImageReadMode, decode_image, decode_jpeg, read_file

    import inputs

    if options.row.startswith("views-32"):
        load = {
            "lightly-default": inputs.to_pil,
            "torchvision-v2": lambda array: torch.from_numpy(array).permute(2, 0, 1),  # [3, 32, 32]
            "albumentations": lambda array: array,
        }
        return inputs.images32(options), load[options.setting]
    load = {
        "lightly-default": inputs.read_pil,
        "pillow": inputs.read_pil,
        "torchvision-v2": lambda path: decode_image(path, ImageReadMode.RGB),
        "torchvision": lambda path: decode_jpeg(read_file(path), ImageReadMode.RGB),
        "albumentations": read_opencv,
    }
    return inputs.photos(options), load[options.setting]


def read_opencv(path: str) -> Any:
    """A decoded colour image of a file, `[H, W, 3]`, as Albumentations' documentation reads it."""
    import cv2

    return cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)


def one_opencv_thread(_: int) -> None:
    """Keeps OpenCV from starting threads in every worker process."""
    import cv2

    cv2.setNumThreads(0)


TRANSFORMS = {
    "lightly-default": lightly_views,
    "torchvision-v2": torchvision_views,
    "albumentations": albumentations_views,
    # Nothing but the decoding: the image is dropped where it was decoded.
    "pillow": lambda row: lambda image: 0,
    "torchvision": lambda row: lambda image: 0,
}


def prepare(options: argparse.Namespace) -> worker.Round:
    """Starts the loader's workers on one batch each; rounds then pass over all of the row's images."""
    import torch

    import inputs

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    row = ROWS[options.row]
    items, load = source(options)
    dataset = inputs.Transformed(items, load, TRANSFORMS[options.setting](row))
    sampler = inputs.Some(row.batch * options.threads)
    more = {"worker_init_fn": one_opencv_thread} if options.setting == "albumentations" else {}
    batches = inputs.loader(dataset, sampler, row.batch, options.threads, **more)
    for _ in batches:
        pass
    images = row.images * FASTER.get(options.setting, 1)
    sampler.count = worker.scaled(options, images, row.batch * options.threads)
    views = sum(crop.count for crop in row.crops) or 1

    def one_round() -> dict[str, Any]:
        started = time.perf_counter()
        for _ in batches:
            pass
        return {"seconds": time.perf_counter() - started, "work": float(sampler.count * views)}

    return one_round


if __name__ == "__main__":
    worker.serve(SETTINGS, prepare)
