"""Losses of lightly, forward and backward; work is counted in iterations.

`compile` is lightly's loss under `torch.compile`, left out where there is no C++ compiler. `matmul` is what a careful
user writes by hand: one matrix product and one cross-entropy.
"""

import argparse
import os
import shutil
from collections.abc import Callable

import worker

HAS_COMPILER = any(shutil.which(name) for name in (os.environ.get("CXX") or "c++", "g++", "clang++"))
COMPILE = ["compile"] if HAS_COMPILER else []

SETTINGS = {
    "nt-xent-256": ["lightly", "matmul", *COMPILE, *(f"matmul-{name}" for name in COMPILE)],
    "nt-xent-1024": ["lightly", "matmul", *COMPILE, *(f"matmul-{name}" for name in COMPILE)],
    "barlow": ["lightly", *COMPILE],
    "vicreg": ["lightly", *COMPILE],
    "swav-sinkhorn": ["lightly", *COMPILE],
    "dino": ["lightly", *COMPILE],
}

SECONDS = 0.5


def nt_xent_by_matmul(z0, z1):
    """NT-Xent with temperature 0.5: all similarities at once, a view's own at minus infinity."""
    import torch
    from torch.nn import functional as F

    n = len(z0)
    z = F.normalize(torch.cat([z0, z1]), dim=1)
    logits = (z @ z.T / 0.5).fill_diagonal_(float("-inf"))  # [2N, 2N]
    positives = torch.arange(2 * n).roll(n)
    return F.cross_entropy(logits, positives)


def case(options: argparse.Namespace) -> tuple[Callable, list, list]:
    """The row's loss, the shapes of the inputs that get gradients, and of those that do not."""
    from lightly import loss
    from lightly.loss.swav_loss import sinkhorn

    match options.row:
        case "nt-xent-256" | "nt-xent-1024":
            shape = (int(options.row.rpartition("-")[2]), 128)
            by_hand = options.setting.startswith("matmul")
            return nt_xent_by_matmul if by_hand else loss.NTXentLoss(temperature=0.5), [shape] * 2, []
        case "barlow":
            return loss.BarlowTwinsLoss(), [(256, 2048)] * 2, []
        case "vicreg":
            return loss.VICRegLoss(), [(256, 2048)] * 2, []
        case "swav-sinkhorn":
            # Similarities of 256 features to 3000 prototypes, between -1 and 1; there is nothing to go back through.
            return lambda x: sinkhorn(x.tanh()), [], [(256, 3000)]
        case "dino":
            # Two global views for the teacher; these and six local ones for the student.
            dino = loss.DINOLoss(output_dim=4096)
            return lambda *z: dino(teacher_out=list(z[8:]), student_out=list(z[:8])), [(64, 4096)] * 8, [(64, 4096)] * 2


def prepare(options: argparse.Namespace) -> worker.Round:
    """The loss on fixed normal inputs, repeated."""
    import torch

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    loss, learning, fixed = case(options)
    if options.setting.endswith("compile"):
        loss = torch.compile(loss)
    learning = [torch.randn(shape, requires_grad=True) for shape in learning]
    fixed = [torch.randn(shape) for shape in fixed]

    def step() -> None:
        value = loss(*learning, *fixed)
        if learning:
            value.backward()
            for z in learning:
                z.grad = None

    return worker.repeated(options, step, SECONDS)


if __name__ == "__main__":
    worker.serve(SETTINGS, prepare)
