"""Random changes of training rows, one modality at a time; nothing of them reaches validation, test or a package.

Sources: pad and crop as in He et al. 2016 (1512.03385); word dropout, Iyyer et al. 2015 (ACL P15-1162). A teacher asked
anew sees the same changed rows as the student (consistent teaching, Beyer et al. 2022, 2106.05237).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from kd.errors import ConfigError
from kd.types import Modality


class Augmentation:
    """Base of all.

    Attributes:
        takes: kinds of modality it can change.
    """

    takes: tuple[str, ...] = ()

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return changed rows [B, ...], of the same shape and type.

        Args:
            x: rows of a batch; those that lack the modality may hold anything.
            generator: of every draw, on the CPU.
        """
        raise NotImplementedError


class Crop(Augmentation):
    """Shift pictures by up to `pad` pixels, their edges continued; mirror them; change their colours a little.

    Args:
        modality: pictures.
        pad: pixels in each direction.
        flip: mirror each with probability one half.
        jitter: brightness, contrast and saturation each times a factor in [1 - jitter, 1 + jitter].
    """

    takes = ("image",)

    def __init__(self, modality: Modality, /, *, pad: int = 4, flip: bool = False, jitter: float = 0.0) -> None:
        if not 0 <= pad < min(modality.shape[1:]):
            raise ConfigError(f"pad: expected 0 up to {min(modality.shape[1:]) - 1} pixels, got {pad}")
        if not 0 <= jitter < 1:
            raise ConfigError(f"jitter: expected a number in [0, 1), got {jitter}")
        self.pad, self.flip, self.jitter = pad, flip, jitter

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        rows, _, height, width = x.shape
        shift = torch.randint(-self.pad, self.pad + 1, (2, rows, 1), generator=generator).to(x.device)
        down = (shift[0] + torch.arange(height, device=x.device)).clamp(0, height - 1)
        right = (shift[1] + torch.arange(width, device=x.device)).clamp(0, width - 1)
        if self.flip:
            mirrored = torch.rand(rows, 1, generator=generator).to(x.device) < 0.5
            right = torch.where(mirrored, right.flip(1), right)
        down = down.view(rows, 1, height, 1).expand(x.shape)
        changed = x.gather(2, down).gather(3, right.view(rows, 1, 1, width).expand(x.shape))
        return self._coloured(changed, generator) if self.jitter else changed

    def _coloured(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Blend with black, with the mean grey and with the picture's greys, as torchvision does one picture's."""
        factors = 1 + self.jitter * (2 * torch.rand(3, len(x), 1, 1, 1, generator=generator) - 1)
        brightness, contrast, saturation = factors.to(x.device)
        picture = (x.float() * brightness).clamp(0, 255)
        mean = functional.rgb_to_grayscale(picture).mean(dim=(1, 2, 3), keepdim=True)
        picture = torch.lerp(mean.expand_as(picture), picture, contrast).clamp(0, 255)
        grey = functional.rgb_to_grayscale(picture, num_output_channels=3)
        return torch.lerp(grey, picture, saturation).clamp(0, 255).round().to(x.dtype)


class DropWords(Augmentation):
    """Replace tokens at random; the first, which stands for the whole row in many networks, stays.

    Args:
        modality: a text.
        probability: in [0, 1) that a token is replaced.
        token: id that takes its place; by default padding, which networks pass over.
    """

    takes = ("text",)

    def __init__(self, modality: Modality, /, *, probability: float = 0.1, token: int | None = None) -> None:
        if not 0 <= probability < 1:
            raise ConfigError(f"probability: expected a number in [0, 1), got {probability}")
        if token is not None and not 0 <= token < modality.vocabulary:
            raise ConfigError(f"token: expected an id in 0..{modality.vocabulary - 1}, got {token}")
        self.probability, self.pad = probability, modality.pad
        self.token = modality.pad if token is None else token

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        lost = torch.rand(x.shape, generator=generator).to(x.device) < self.probability
        lost[:, 0] = False
        return torch.where(lost & (x != self.pad), self.token, x)


def build_augmentations(
    parts: Mapping[str, Mapping[str, Any]], modality: Mapping[str, Modality]
) -> dict[str, Augmentation]:
    """Return the augmentations of the modalities that a node sees.

    Args:
        parts: modality -> part; names outside `modality` are ignored, since `defaults` may name them for every node.
        modality: what the node sees.

    Raises:
        ConfigError: every fault at once.
    """
    from kd.distill import AUGMENTATIONS

    found: dict[str, Augmentation] = {}
    faults: list[str] = []
    for name, described in modality.items():
        if name not in parts:
            continue
        where = f"augment.{name}"
        told = AUGMENTATIONS.faults(parts[name], where)
        takes = () if told else AUGMENTATIONS[parts[name]["name"]].load().takes  # type: ignore[attr-defined]
        if not told and described.kind not in takes:
            told = [f"{where}: {parts[name]['name']} cannot change {described.kind}, only {', '.join(takes)}"]
        try:
            if not told:
                found[name] = AUGMENTATIONS.build(parts[name], described, where=where)
        except ConfigError as error:
            told = [f"{where}.{fault}" for fault in error.faults]
        faults += told
    if faults:
        raise ConfigError(faults)
    return found
