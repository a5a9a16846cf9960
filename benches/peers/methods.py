"""lightly's methods, each with the parts and in the order of its example in lightly's documentation.

Heads and losses are lightly's classes. Their widths are those of our recipes: the examples' stand for a ResNet-18 on
colour images, whose features are twice as many. What else differs (optimizer, rate, temperature, momentum) stands in
two settings, `recipe` and `documentation`.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from lightly.loss import (
    BarlowTwinsLoss,
    DINOLoss,
    NegativeCosineSimilarity,
    NTXentLoss,
    SwaVLoss,
    VICRegLoss,
)
from lightly.models import utils
from lightly.models.modules import (
    BarlowTwinsProjectionHead,
    BYOLPredictionHead,
    BYOLProjectionHead,
    DINOProjectionHead,
    MaskedVisionTransformerTIMM,
    MoCoProjectionHead,
    SimCLRProjectionHead,
    SimSiamPredictionHead,
    SimSiamProjectionHead,
    SwaVProjectionHead,
    SwaVPrototypes,
)
from lightly.models.modules.masked_vision_transformer_decoder_timm import MaskedVisionTransformerDecoderTIMM
from lightly.transforms import DINOTransform, MAETransform, SimCLRTransform, SwaVTransform
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

import simclr

# The size of a view, and of a small crop beside it.
SIZE, SMALL = 28, 16
# Our recipes' jitter; what only colours have, and what is off there.
COLOURS = {
    "cj_prob": 0.8,
    "cj_bright": 0.6,
    "cj_contrast": 0.6,
    "cj_sat": 0.0,
    "cj_hue": 0.0,
    "random_gray_scale": 0.0,
}


@dataclass(frozen=True)
class Setting:
    """How a method is trained. `constants` are arguments of its class."""

    optimizer: Callable[[list[dict]], Optimizer]
    constants: dict[str, Any] = field(default_factory=dict)
    final_weight_decay: float | None = None
    clip: float | None = None


@dataclass(frozen=True)
class Moment:
    """Where in the run a step is."""

    step: int
    steps: int
    steps_per_epoch: int

    @property
    def epoch(self) -> int:
        """Counted from 0."""
        return self.step // self.steps_per_epoch

    def momentum(self, ends: tuple[float, float]) -> float:
        """Along half a cosine from the first of `ends` to the second."""
        return cosine_schedule(self.step, self.steps, *ends)


class Method(nn.Module):
    """Networks under `backbone` and beside it, and the loss of a batch of views."""

    batch = 256
    settings: dict[str, Setting]
    chosen = "recipe"

    def loss(self, views: list[Tensor], now: Moment) -> Tensor:
        """The loss of views `[N, C, H, W]`; moves teachers and queues, as the examples do before the step."""
        raise NotImplementedError

    def after_backward(self, now: Moment) -> None:
        """What is done to gradients before the step."""

    def fixed(self) -> Iterable[nn.Module]:
        """Modules whose rate stays at its base."""
        return ()

    @staticmethod
    def transform(normalize: dict) -> Callable:
        """The views of an image. Those of lightly's classes for two views differ in their defaults alone."""
        return SimCLRTransform(input_size=SIZE, min_scale=0.2, gaussian_blur=0.0, normalize=normalize, **COLOURS)


def without_gradient(module: nn.Module) -> nn.Module:
    """A copy that follows, and does not learn."""
    module = copy.deepcopy(module)
    utils.deactivate_requires_grad(module)
    return module


def sgd(lr: float) -> Callable:
    """The examples' optimizer for batches of 256."""
    return partial(SGD, lr=lr)


def adamw(lr: float, weight_decay: float = 1e-4, betas: tuple[float, float] = (0.9, 0.999)) -> Callable:
    """Our recipes' optimizer."""
    return partial(AdamW, lr=lr, weight_decay=weight_decay, betas=betas)


class SimClr(Method):
    """https://docs.lightly.ai/self-supervised-learning/examples/simclr.html"""

    settings = {
        "recipe": Setting(adamw(0.01)),
        "documentation": Setting(sgd(0.06)),
    }

    def __init__(self, channels: int):
        super().__init__()
        self.backbone, dim = simclr.convnet(channels)
        self.projection_head = SimCLRProjectionHead(dim, dim, 128)
        self.criterion = NTXentLoss(temperature=0.5)

    def loss(self, views: list[Tensor], now: Moment) -> Tensor:
        z0, z1 = (self.projection_head(self.backbone(x)) for x in views)
        return self.criterion(z0, z1)


class MoCo(Method):
    """https://docs.lightly.ai/self-supervised-learning/examples/moco.html"""

    settings = {
        "recipe": Setting(adamw(0.003), {"temperature": 0.2, "momentum": (0.99, 0.99)}),
        "documentation": Setting(sgd(0.06), {"temperature": 0.5, "momentum": (0.996, 1.0)}),
    }

    def __init__(self, channels: int, temperature: float, momentum: tuple[float, float]):
        super().__init__()
        self.backbone, dim = simclr.convnet(channels)
        self.projection_head = MoCoProjectionHead(dim, dim, 128)
        self.backbone_momentum = without_gradient(self.backbone)
        self.projection_head_momentum = without_gradient(self.projection_head)
        self.criterion = NTXentLoss(temperature=temperature, memory_bank_size=(4096, 128))
        self.momentum = momentum

    def loss(self, views: list[Tensor], now: Moment) -> Tensor:
        momentum = now.momentum(self.momentum)
        utils.update_momentum(self.backbone, self.backbone_momentum, m=momentum)
        utils.update_momentum(self.projection_head, self.projection_head_momentum, m=momentum)
        x_query, x_key = views
        query = self.projection_head(self.backbone(x_query))
        key = self.projection_head_momentum(self.backbone_momentum(x_key)).detach()
        return self.criterion(query, key)


class Byol(Method):
    """https://docs.lightly.ai/self-supervised-learning/examples/byol.html"""

    settings = {
        "recipe": Setting(adamw(0.004), {"momentum": (0.98, 1.0)}),
        "documentation": Setting(sgd(0.06), {"momentum": (0.996, 1.0)}),
    }

    def __init__(self, channels: int, momentum: tuple[float, float]):
        super().__init__()
        self.backbone, dim = simclr.convnet(channels)
        self.projection_head = BYOLProjectionHead(dim, 512, 128)
        self.prediction_head = BYOLPredictionHead(128, 512, 128)
        self.backbone_momentum = without_gradient(self.backbone)
        self.projection_head_momentum = without_gradient(self.projection_head)
        self.criterion = NegativeCosineSimilarity()
        self.momentum = momentum

    def loss(self, views: list[Tensor], now: Moment) -> Tensor:
        momentum = now.momentum(self.momentum)
        utils.update_momentum(self.backbone, self.backbone_momentum, m=momentum)
        utils.update_momentum(self.projection_head, self.projection_head_momentum, m=momentum)
        p0, p1 = (self.prediction_head(self.projection_head(self.backbone(x))) for x in views)
        z0, z1 = (self.projection_head_momentum(self.backbone_momentum(x)).detach() for x in views)
        return 0.5 * (self.criterion(p0, z1) + self.criterion(p1, z0))


class SimSiam(Method):
    """https://docs.lightly.ai/self-supervised-learning/examples/simsiam.html"""

    settings = {
        "recipe": Setting(adamw(0.004), {"fixed_predictor": True}),
        "documentation": Setting(sgd(0.06), {"fixed_predictor": False}),
    }

    def __init__(self, channels: int, fixed_predictor: bool):
        super().__init__()
        self.backbone, dim = simclr.convnet(channels)
        self.projection_head = SimSiamProjectionHead(dim, 512, 512)
        self.prediction_head = SimSiamPredictionHead(512, 128, 512)
        self.criterion = NegativeCosineSimilarity()
        self.fixed_predictor = fixed_predictor

    def fixed(self) -> Iterable[nn.Module]:
        return (self.prediction_head,) if self.fixed_predictor else ()

    def loss(self, views: list[Tensor], now: Moment) -> Tensor:
        z0, z1 = (self.projection_head(self.backbone(x)) for x in views)
        p0, p1 = self.prediction_head(z0), self.prediction_head(z1)
        return 0.5 * (self.criterion(z0.detach(), p1) + self.criterion(z1.detach(), p0))


class BarlowTwins(Method):
    """https://docs.lightly.ai/self-supervised-learning/examples/barlowtwins.html"""

    settings = {
        "recipe": Setting(adamw(0.004)),
        "documentation": Setting(sgd(0.06)),
    }

    def __init__(self, channels: int):
        super().__init__()
        self.backbone, dim = simclr.convnet(channels)
        self.projection_head = BarlowTwinsProjectionHead(dim, 512, 512)
        self.criterion = BarlowTwinsLoss()

    def loss(self, views: list[Tensor], now: Moment) -> Tensor:
        z0, z1 = (self.projection_head(self.backbone(x)) for x in views)
        return self.criterion(z0, z1)


class VicReg(BarlowTwins):
    """https://docs.lightly.ai/self-supervised-learning/examples/vicreg.html"""

    def __init__(self, channels: int):
        super().__init__(channels)
        self.criterion = VICRegLoss()


class SwAV(Method):
    """https://docs.lightly.ai/self-supervised-learning/examples/swav.html"""

    settings = {
        "recipe": Setting(adamw(0.005), {"frozen_steps": 39}),
        # The example's rate of 0.001 is for batches of 128.
        "documentation": Setting(partial(Adam, lr=0.002), {"frozen_steps": 0}),
    }

    def __init__(self, channels: int, frozen_steps: int):
        super().__init__()
        self.backbone, dim = simclr.convnet(channels)
        self.projection_head = SwaVProjectionHead(dim, 256, 64)
        self.prototypes = SwaVPrototypes(64, n_prototypes=100, n_steps_frozen_prototypes=frozen_steps)
        self.criterion = SwaVLoss()

    def loss(self, views: list[Tensor], now: Moment) -> Tensor:
        self.prototypes.normalize()
        z = [nn.functional.normalize(self.projection_head(self.backbone(x)), dim=1, p=2) for x in views]
        scores = [self.prototypes(part, step=now.step) for part in z]
        return self.criterion(scores[:2], scores[2:])

    @staticmethod
    def transform(normalize: dict) -> Callable:
        return SwaVTransform(
            crop_sizes=(SIZE, SMALL),
            crop_counts=(2, 2),
            crop_min_scales=(0.3, 0.1),
            crop_max_scales=(1.0, 0.4),
            gaussian_blur=0.0,
            normalize=normalize,
            **COLOURS,
        )


class Dino(Method):
    """https://docs.lightly.ai/self-supervised-learning/examples/dino.html"""

    settings = {
        "recipe": Setting(
            adamw(0.005, weight_decay=0.04),
            {"momentum": (0.99, 1.0), "teacher_temp": 0.07, "warmup_epochs": 10, "batch_norm": True},
            final_weight_decay=0.4,
            clip=3.0,
        ),
        # The example's rate of 0.001 is for batches of 64.
        "documentation": Setting(
            partial(Adam, lr=0.004),
            {"momentum": (0.996, 1.0), "teacher_temp": 0.04, "warmup_epochs": 5, "batch_norm": False},
        ),
    }

    def __init__(
        self,
        channels: int,
        momentum: tuple[float, float],
        teacher_temp: float,
        warmup_epochs: int,
        batch_norm: bool,
    ):
        super().__init__()
        self.backbone, dim = simclr.convnet(channels)
        self.student_head = DINOProjectionHead(dim, 256, 64, 1024, batch_norm=batch_norm, freeze_last_layer=1)
        self.teacher_backbone = without_gradient(self.backbone)
        self.teacher_head = DINOProjectionHead(dim, 256, 64, 1024, batch_norm=batch_norm)
        utils.deactivate_requires_grad(self.teacher_head)
        self.criterion = DINOLoss(
            output_dim=1024, teacher_temp=teacher_temp, warmup_teacher_temp_epochs=warmup_epochs
        )
        self.momentum = momentum

    def loss(self, views: list[Tensor], now: Moment) -> Tensor:
        momentum = now.momentum(self.momentum)
        utils.update_momentum(self.backbone, self.teacher_backbone, m=momentum)
        utils.update_momentum(self.student_head, self.teacher_head, m=momentum)
        teacher = [self.teacher_head(self.teacher_backbone(x)) for x in views[:2]]
        student = [self.student_head(self.backbone(x)) for x in views]
        return self.criterion(teacher, student, epoch=now.epoch)

    def after_backward(self, now: Moment) -> None:
        self.student_head.cancel_last_layer_gradients(current_epoch=now.epoch)

    @staticmethod
    def transform(normalize: dict) -> Callable:
        # The second global view has no `cj_strength` of its own but the default of 0.5.
        twice = {name: 2 * COLOURS[name] for name in ("cj_bright", "cj_contrast")}
        return DINOTransform(
            global_crop_size=SIZE,
            global_crop_scale=(0.4, 1.0),
            local_crop_size=SMALL,
            local_crop_scale=(0.1, 0.4),
            n_local_views=2,
            cj_strength=0.5,
            gaussian_blur=(0.0, 0.0, 0.0),
            solarization_prob=0.0,
            normalize=normalize,
            **(COLOURS | twice),
        )


class Mae(Method):
    """https://docs.lightly.ai/self-supervised-learning/examples/mae.html"""

    batch = 64
    settings = {
        "recipe": Setting(adamw(0.001, weight_decay=0.05, betas=(0.9, 0.95))),
        # The example's rate of 1.5e-4 is for batches of 256.
        "documentation": Setting(partial(AdamW, lr=1.5e-4 / 4)),
    }

    def __init__(self, channels: int):
        from timm.models.vision_transformer import VisionTransformer

        super().__init__()
        vit = VisionTransformer(
            img_size=SIZE,
            patch_size=4,
            in_chans=channels,
            embed_dim=192,
            depth=4,
            num_heads=3,
            num_classes=0,
            global_pool="avg",
            fc_norm=False,
        )
        self.backbone = MaskedVisionTransformerTIMM(vit=vit)
        self.embed = nn.Linear(192, 96)
        self.decoder = MaskedVisionTransformerDecoderTIMM(
            num_patches=vit.patch_embed.num_patches, embed_dim=96, depth=2, num_heads=3
        )
        self.predict = nn.Linear(96, 4 * 4 * channels)
        self.criterion = nn.MSELoss()

    def loss(self, views: list[Tensor], now: Moment) -> Tensor:
        (images,) = views
        size = len(images), self.backbone.sequence_length
        keep, mask = utils.random_token_mask(size=size, mask_ratio=0.75)
        seen = self.embed(self.backbone.encode(images=images, idx_keep=keep))  # [N, 1 + K, 96]
        tokens = utils.repeat_token(self.decoder.mask_token, size)
        tokens = utils.set_at_index(tokens, keep, seen)  # [N, 1 + T, 96]
        hidden = utils.get_at_index(self.decoder(tokens), mask)
        # Patches are counted without the class token.
        target = utils.get_at_index(utils.patchify(images, 4), mask - 1)
        return self.criterion(self.predict(hidden), target)

    @staticmethod
    def transform(normalize: dict) -> Callable:
        return MAETransform(input_size=SIZE, min_scale=0.4, normalize=normalize)


METHODS: dict[str, type[Method]] = {
    "simclr": SimClr,
    "moco-v2": MoCo,
    "byol": Byol,
    "simsiam": SimSiam,
    "barlow-twins": BarlowTwins,
    "vicreg": VicReg,
    "swav": SwAV,
    "dino": Dino,
    "mae": Mae,
}
