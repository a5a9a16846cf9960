"""SimCLR as lightly's documentation writes it: networks, and one step of training."""

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules.heads import ProjectionHead
from torch import Tensor, nn


def convnet(channels: int = 1) -> tuple[nn.Module, int]:
    """Four blocks of 3x3 convolution, BatchNorm and ReLU, and the mean over all places."""
    blocks = []
    for width, stride in [(32, 1), (64, 2), (128, 2), (256, 2)]:
        conv = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        blocks += [conv, nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()), channels


def resnet18() -> tuple[nn.Module, int]:
    """torchvision's ResNet-18 with the first layers that suit images of 32 pixels."""
    import torchvision

    network = torchvision.models.resnet18()
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    network.fc = nn.Identity()
    return network, 512


def vit_tiny() -> tuple[nn.Module, int]:
    """timm's ViT-tiny on 64 patches of 4 pixels."""
    import timm

    network = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=4, num_classes=0)
    return network, network.num_features


class SimClr:
    """An encoder, a projector of one hidden layer, NT-Xent and AdamW.

    `channels_last`, `compiled` and `bfloat16` (autocast around the forward pass) are the settings that PyTorch's
    documentation advises for speed.
    """

    def __init__(
        self,
        encoder: tuple[nn.Module, int],
        channels_last: bool = False,
        compiled: bool = False,
        bfloat16: bool = False,
    ):
        self.encoder, dim = encoder
        projector = ProjectionHead([(dim, dim, nn.BatchNorm1d(dim), nn.ReLU()), (dim, 128, None, None)])
        self.model = nn.Sequential(self.encoder, projector)
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.model.to(memory_format=self.format)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.002, weight_decay=1e-4)
        self.criterion = NTXentLoss(temperature=0.5)
        self.forward = torch.compile(self.model) if compiled else self.model
        self.bfloat16 = bfloat16

    def step(self, x0: Tensor, x1: Tensor) -> Tensor:
        """One update from two views `[N, C, H, W]` of the same images; returns the loss."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bfloat16):
            z0 = self.forward(x0.to(memory_format=self.format))
            z1 = self.forward(x1.to(memory_format=self.format))
        loss = self.criterion(z0.float(), z1.float())
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()
