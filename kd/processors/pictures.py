"""Pictures: files, bytes and images of Pillow -> uint8 pixels."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kd.errors import ConfigError, DataError
from kd.processors.base import Processor
from kd.types import Modality

WHITE = 255


class Pixels(Processor):
    """Pictures: a path, PNG or JPEG bytes, a PIL image or uint8 [3, H, W] -> uint8 [N, 3, size, size].

    A picture is turned upright as its camera noted; transparent pixels become white, a single channel becomes grey; the
    shorter side is scaled to `size` and the middle is cut out (torchvision's transforms, antialiased).

    Args:
        size: pixels along each side, at least 2.
    """

    def __init__(self, size: int) -> None:
        from torchvision.transforms import v2

        if size < 2:  # torch's antialiased kernel fails on a single pixel
            raise ConfigError(f"size: expected at least 2 pixels, got {size}")
        self.size = size
        self.modality = Modality((3, size, size), "image")
        self._transform = v2.Compose([v2.Resize(size, antialias=True), v2.CenterCrop(size)])

    def __call__(self, values: Sequence[Any]) -> Tensor:
        return torch.stack([self._transform(picture(value)) for value in values])

    def state(self) -> dict[str, Any]:
        return {"name": "pixels", "size": self.size}


def picture(value: Any) -> Tensor:
    """Return one picture as uint8 [3, H, W].

    Raises:
        DataError: the file or the bytes are no picture.
    """
    from PIL import Image

    if isinstance(value, Tensor | np.ndarray):
        tensor = torch.as_tensor(value)
        if tensor.dtype != torch.uint8 or tensor.dim() != 3 or tensor.shape[0] != 3:
            raise DataError(f"picture: expected uint8 [3, H, W], got {tensor.dtype} {tuple(tensor.shape)}; convert it")
        return tensor
    named = str(value) if isinstance(value, str | os.PathLike) else "picture"
    try:
        if isinstance(value, Image.Image):
            return _pixels(value, named)
        with Image.open(io.BytesIO(value) if isinstance(value, bytes) else value) as opened:
            return _pixels(opened, named)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{named}: no such picture; restore it or remove its row") from None
    except Exception as error:  # decoders raise whatever they like on damaged files
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{named}: not a picture or damaged ({reason}); replace it or remove its row") from None


def _pixels(opened: Any, named: str) -> Tensor:
    """Return a PIL image as uint8 [3, H, W], upright, on white."""
    from PIL import Image, ImageOps

    if opened.mode.startswith(("I", "F")):  # Pillow would cut off what is brighter than 255
        raise DataError(f"{named}: more than 8 bits per value ({opened.mode}); save it scaled to 0..255")
    upright = ImageOps.exif_transpose(opened)
    seen = upright.convert("RGBA") if _transparent(upright) else upright.convert("RGB")
    if seen.mode == "RGBA":
        seen = Image.alpha_composite(Image.new("RGBA", seen.size, (WHITE,) * 4), seen).convert("RGB")
    return torch.from_numpy(np.asarray(seen).copy()).permute(2, 0, 1).contiguous()


def _transparent(image: Any) -> bool:
    return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
