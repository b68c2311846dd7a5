"""Torchvision's classification networks as encoders of pictures: uint8 [B, 3, H, W] -> one token of width D."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from kd.errors import ConfigError
from kd.models.encoders import Borrowed, check_positive
from kd.models.image import group_norm, one_token
from kd.pretrained import STORED
from kd.types import Modality

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of its channels, which weights trained on it expect."""
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Mean and deviation that bring 0..1 to -1..1."""
NATIVE = 224
"""Pixels along a side where weights do not say."""
BESIDE_THE_HEAD: Mapping[str, Mapping[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}
"""Backbones that would return further logits in training, and the arguments that stop them."""
RESOLUTION_BUILT_IN = "vit_"
"""How the names of those begin that have parameters for every place in a picture."""

Shape = tuple[int, ...]


class Torchvision(Borrowed):
    """Any classification network of torchvision, its last layer replaced by a map to the shared width.

    From random weights, batch normalisation becomes group normalisation; with pre-trained ones, its statistics and its
    scale stay as they were trained.

    Args:
        modality: an image.
        width: D.
        backbone: its name in `torchvision.models`.
        pretrained: `DEFAULT` or another name of its weights in torchvision, or a `.safetensors` file of its state.
        frozen: train the last layer only.
        size: pixels along each side that pictures are scaled to inside; by default they are taken as they come, unless
            the backbone cannot read them.

    Raises:
        ConfigError: torchvision has no such backbone or weights, or they cannot be had here.
    """

    takes = ("image",)
    weights = "weights of torchvision"
    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        modality: Modality,
        width: int,
        /,
        *,
        backbone: str,
        pretrained: str | None = None,
        frozen: bool = False,
        size: int | None = None,
    ) -> None:
        super().__init__()
        if frozen and pretrained is None:
            raise ConfigError("frozen: random weights that never train teach nothing; set pretrained, or frozen: false")
        check_positive(size=1 if size is None else size)
        weights = _weights(backbone, pretrained)
        self.backbone, self.pretrained, self.frozen, self.width = backbone, pretrained, frozen, width
        self.shape, self.network = self._sized(tuple(modality.shape[1:]), size, weights)
        self.resizes = self.shape != tuple(modality.shape[1:])
        self.head = _last_layer(self.network)
        # In the state, so that a package carries what its weights were trained with.
        mean, deviation = _normalisation(pretrained, weights)
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).view(-1, 1, 1))
        if pretrained not in (None, STORED):
            _load(self.network, _state(backbone, str(pretrained), weights), self.head, str(pretrained))
        if frozen:
            self.network.requires_grad_(False)
            self.network.get_submodule(self.head).requires_grad_(True)

    def _sized(self, own: Shape, size: int | None, weights: Any) -> tuple[Shape, nn.Module]:
        """Return the first shape of pictures that the backbone takes, and the backbone for it."""
        native = NATIVE if weights is None else int(weights.transforms().crop_size[0])
        # Weights fix the number of a vision transformer's positions.
        fixed = self.pretrained is not None and self.backbone.startswith(RESOLUTION_BUILT_IN)
        candidates = [(size, size)] if size else [(native, native)] if fixed else [own, (native, native)]
        for shape in candidates:
            try:
                network = self._built(shape)
                _try_on(network, shape, self.width)
            except Exception:  # networks refuse a size in whatever way they happen to fail
                continue
            return shape, network
        raise ConfigError(f"size: {self.backbone} cannot read {candidates[0]} pixels; it was made for {native}")

    def _built(self, shape: Shape) -> nn.Module:
        from torchvision import models, ops

        arguments = dict(BESIDE_THE_HEAD.get(self.backbone, {}))
        if arguments and self.pretrained is not None:
            arguments["transform_input"] = True
        if self.backbone.startswith(RESOLUTION_BUILT_IN):
            arguments["image_size"] = shape[0]
        network = models.get_model(self.backbone, weights=None, num_classes=self.width, **arguments)
        trained = self.pretrained is not None
        for path, norm in [(p, m) for p, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)]:
            channels, eps = norm.num_features, norm.eps
            network.set_submodule(path, ops.FrozenBatchNorm2d(channels, eps) if trained else group_norm(channels, eps))
        return network

    @property
    def spec(self) -> dict[str, Any] | None:
        """Where pre-trained: how to build it once its weights come with a package."""
        if self.pretrained is None:
            return None
        size = self.shape[0] if self.resizes else None
        built = {"backbone": self.backbone, "frozen": self.frozen, "size": size}
        return {"name": "torchvision", "pretrained": STORED, **built}

    def fresh(self) -> nn.Module:
        return self._built(self.shape)

    def last(self) -> nn.Module:
        return self.network.get_submodule(self.head)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode x uint8 [B, 3, H, W] to one token each: [B, 1, D], all kept."""
        scaled = x.to(self.mean.dtype) / 255
        if self.resizes:
            shrinks = self.shape[0] < x.shape[2]
            scaled = functional.interpolate(scaled, self.shape, mode="bilinear", antialias=shrinks)
        return one_token(self.network((scaled - self.mean) / self.deviation))


def _weights(backbone: str, pretrained: str | None) -> Any:
    """Return torchvision's entry for weights that it has, else None.

    Raises:
        ConfigError: the backbone or the weights are unknown.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if backbone not in known:
        near = difflib.get_close_matches(backbone, known, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "see torchvision.models"
        raise ConfigError(f"backbone: torchvision has no classification network {backbone!r}; {hint}")
    if pretrained in (None, STORED) or str(pretrained).endswith(".safetensors"):
        return None
    entries = models.get_model_weights(backbone)
    if pretrained not in entries.__members__:
        names = ", ".join(entries.__members__)
        raise ConfigError(
            f"pretrained: {backbone} has no weights {pretrained!r}; known: {names}, or a .safetensors file"
        )
    return entries[pretrained]


def _normalisation(pretrained: str | None, weights: Any) -> tuple[Sequence[float], Sequence[float]]:
    if pretrained is None:
        return HALVES
    if weights is None:
        return IMAGENET
    return weights.transforms().mean, weights.transforms().std


@torch.no_grad()
def _try_on(network: nn.Module, shape: Shape, width: int) -> None:
    """Run a network on shapes alone; it computes nothing."""
    state = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    shapes = {name: value.to("meta") for name, value in state.items()}
    network.eval()
    answer = torch.func.functional_call(network, shapes, torch.empty(1, 3, *shape, device="meta"))
    network.train()
    if answer.shape != (1, width):
        raise ValueError("no vector per picture")


def _last_layer(network: nn.Module) -> str:
    """Return the path of the layer that gives the logits: in every network of torchvision the last one with weights."""
    return [path for path, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]


def _state(backbone: str, pretrained: str, weights: Any) -> dict[str, Tensor]:
    """Read pre-trained weights: torchvision's without running a pickle, or a safetensors file.

    Raises:
        ConfigError: they cannot be had here.
    """
    try:
        if weights is None:
            return load_file(Path(pretrained).expanduser())
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:  # no connection, a full disk, a wrong hash and a damaged file share no class
        reason = " ".join(str(error).split())[:120]
        fix = "name a file that is there" if weights is None else "give a .safetensors file where there is no network"
        raise ConfigError(f"pretrained: {pretrained}: weights cannot be read here ({reason}); {fix}") from None
    # The files of the densenets are older than the names of their layers.
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)", r"\1\2", name): value for name, value in state.items()}


def _load(network: nn.Module, state: Mapping[str, Tensor], head: str, named: str) -> None:
    """Load everything but the last layer.

    Raises:
        ConfigError: the weights are another network's.
    """
    own = network.state_dict()
    body = {name for name in own if not name.startswith(f"{head}.")}
    fitting = {name: state[name] for name in body if name in state and state[name].shape == own[name].shape}
    if fitting.keys() != body:
        wrong = min(body - fitting.keys())
        raise ConfigError(f"pretrained: {named}: not this backbone's weights ({wrong} is missing or of another shape)")
    own.update(fitting)
    network.load_state_dict(own)
