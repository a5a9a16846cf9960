"""What the peers read, and the data loader that reads it, as their documentation sets it up."""

import argparse
import gzip
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from worker import needed


class Transformed(Dataset):
    """Sample `i` is `transform(load(items[i]))`; numbers past the end begin again at the first item."""

    def __init__(self, items: Sequence[Any], load: Callable[[Any], Any], transform: Callable[[Any], Any]):
        self.items, self.load, self.transform = items, load, transform

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        return self.transform(self.load(self.items[i % len(self.items)]))


class Some(Sampler):
    """The first `count` numbers, shuffled if asked; `count` may change between passes, for a short warm-up."""

    def __init__(self, count: int, shuffle: bool = False):
        self.count, self.shuffle = count, shuffle

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(self.count).tolist() if self.shuffle else range(self.count))


def loader(dataset: Dataset, sampler: Some, batch: int, workers: int, **more: Any) -> DataLoader:
    """A loader whose worker processes live from the first pass to the last."""
    return DataLoader(
        dataset,
        batch_size=batch,
        sampler=sampler,
        drop_last=True,
        num_workers=workers,
        persistent_workers=True,
        **more,
    )


def to_pil(array: np.ndarray) -> Image.Image:
    """`[H, W, 3]` or `[H, W]` bytes as an image, as torchvision's data sets of small images do."""
    return Image.fromarray(array)


def read_pil(path: str) -> Image.Image:
    """A decoded colour image of a file, as torchvision's data sets of folders do."""
    with Image.open(path) as image:
        return image.convert("RGB")


def images32(options: argparse.Namespace) -> np.ndarray:
    """`[N, 32, 32, 3]` bytes."""
    images = np.load(needed(options, "images32.npy"))
    if images.dtype != np.uint8 or images.shape[1:] != (32, 32, 3):
        sys.exit(f"images32.npy holds {images.dtype} {images.shape}: uint8 [N, 32, 32, 3] is needed")
    return images


def photos(options: argparse.Namespace) -> list[str]:
    """Paths of the JPEG files, in order."""
    paths = sorted(str(path) for path in needed(options, "photos").glob("*.jpg"))
    return paths or sys.exit(f"{options.data / 'photos'} holds no .jpg file")


def fashion_mnist(options: argparse.Namespace, part: str, limit: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The first images `[N, 28, 28]` of `part` (`train` or `t10k`), and their labels `[N]` where the file is there."""
    folder = needed(options, "fashion-mnist")
    images = idx(folder, f"{part}-images-idx3-ubyte")
    if images is None:
        sys.exit(f"{folder / part}-images-idx3-ubyte(.gz) is missing: {options.row} reads it")
    labels = idx(folder, f"{part}-labels-idx1-ubyte")
    return images[:limit], None if labels is None else labels[:limit]


def idx(folder: Path, name: str) -> np.ndarray | None:
    """An array of bytes from an IDX file, packed or not; `None` when there is no such file."""
    plain, packed = folder / name, folder / f"{name}.gz"
    if plain.exists():
        data = plain.read_bytes()
    elif packed.exists():
        data = gzip.decompress(packed.read_bytes())
    else:
        return None
    if data[:3] != b"\0\0\x08":
        sys.exit(f"{folder / name} does not begin as an IDX file of bytes does")
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", dimensions, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape.astype(int))
