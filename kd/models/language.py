"""Transformers' models as encoders of words, pre-trained or of a configuration; see `kd.models.text`."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from kd.errors import ConfigError
from kd.models.text import ATTENTION, Language, Pool
from kd.pretrained import STORED, from_hub
from kd.types import Modality

SPARE_IDS = 1024
"""Rows of an embedding that a model may keep beyond its tokenizer's ids; more of them mean another tokenizer."""


class Transformers(Language):
    """Any encoder of transformers: pre-trained, or of a configuration and random weights.

    Args:
        modality: a text; its ids must be those of the model's own tokenizer where it is pre-trained.
        width: D.
        pretrained: a folder, `package:NAME/FOLDER` or a hub's `owner/name` (see `kd.pretrained`).
        config: in place of `pretrained`, `model_type` and what else the configuration takes.
        frozen: train the map to the shared width only.
        pool: give the mean of the tokens, the first token, or all tokens.

    Raises:
        ConfigError: there is no such model here, or it cannot read the modality.
    """

    weights = "a folder or a hub's model"

    def __init__(
        self,
        modality: Modality,
        width: int,
        /,
        *,
        pretrained: str | None = None,
        config: Mapping[str, Any] | None = None,
        frozen: bool = False,
        pool: Pool = "mean",
    ) -> None:
        if (pretrained in (None, STORED)) != (config is not None):
            raise ConfigError("pretrained, config: name exactly one of the two")
        if frozen and pretrained is None:
            raise ConfigError("frozen: random weights that never train teach nothing; set pretrained, or frozen: false")
        if config is None:
            model = _pretrained(str(pretrained))
        else:
            if pretrained is None:
                _check_settings(config)
            model = _of({"vocab_size": modality.vocabulary, "pad_token_id": modality.pad, **config})
        # Plain JSON without the path it was read from: a package's card holds it.
        written: dict[str, Any] = json.loads(model.config.to_json_string(use_diff=True))
        network = _encoder(model)
        super().__init__(modality, width, network, _hidden_width(network, modality, pretrained), pool)
        self.config = {key: value for key, value in written.items() if key != "_name_or_path"}
        self.pretrained, self.frozen = pretrained, frozen
        if frozen:
            self.network.requires_grad_(False)

    @property
    def spec(self) -> dict[str, Any] | None:
        """Where pre-trained: how to build it once its weights come with a package."""
        if self.pretrained is None:
            return None
        built = {"config": self.config, "frozen": self.frozen, "pool": self.pool}
        return {"name": "transformers", "pretrained": STORED, **built}

    def fresh(self) -> nn.Module:
        network: nn.Module = _encoder(_of(self.config))
        return network


def _pretrained(name: str) -> Any:
    from transformers import AutoModel

    try:
        model, report = from_hub(
            AutoModel,
            name,
            use_safetensors=True,
            output_loading_info=True,
            dtype=torch.float32,
            attn_implementation=ATTENTION,
        )
    except ConfigError as error:
        raise ConfigError(f"pretrained: {error}") from None
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ConfigError(f"pretrained: {name}: {len(missing)} weights are missing, {missing[0]} first; get it again")
    return model


def _check_settings(config: Mapping[str, Any]) -> None:
    """Refuse what a configuration would take and then never read.

    Raises:
        ConfigError: naming the setting.
    """
    from transformers import CONFIG_MAPPING

    kind = str(config.get("model_type"))
    if kind not in CONFIG_MAPPING:
        near = difflib.get_close_matches(kind, list(CONFIG_MAPPING), n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "bert is one"
        raise ConfigError(f"config.model_type: transformers has no model {kind!r}; {hint}")
    plain = CONFIG_MAPPING[kind]()
    known = [*plain.to_dict(), *plain.attribute_map]
    for key in config:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise ConfigError(
                f"config.{key}: {kind} has no such setting" + (f"; did you mean {near[0]!r}?" if near else "")
            )


def _of(config: Mapping[str, Any]) -> Any:
    """Build a model of a configuration, its weights drawn.

    Raises:
        ConfigError: a value is none that the model takes.
    """
    from transformers import AutoConfig, AutoModel

    try:
        built = AutoConfig.for_model(**config)
        return AutoModel.from_config(built, attn_implementation=ATTENTION, dtype=torch.float32, trust_remote_code=False)
    except Exception as error:  # every model checks its own configuration in its own way
        reason = " ".join(str(error).split())[:160]
        raise ConfigError(f"config: no model can be built from it: {reason}") from None


def _encoder(model: Any) -> nn.Module:
    """Return the part that reads, without a pooler: nothing would ever train it."""
    network = model.get_encoder() if model.config.is_encoder_decoder else model
    if getattr(network, "pooler", None) is not None:
        network.pooler = None
    return network


@torch.no_grad()
def _hidden_width(network: Any, modality: Modality, pretrained: str | None) -> int:
    """Return the width of what a network says about a row without padding.

    Raises:
        ConfigError: it cannot read such a row, or the ids mean something else to it.
    """
    field = "config" if pretrained is None else "pretrained"
    row = torch.full((1, modality.shape[0]), modality.vocabulary - 1)
    try:
        known = network.get_input_embeddings().weight.shape[0]
        _check_ids(known, modality.vocabulary, field)
        hidden = network.eval()(input_ids=row, attention_mask=torch.ones_like(row)).last_hidden_state
        network.train()
        if hidden.shape[:2] != row.shape:
            raise ValueError(f"{list(row.shape)} ids became {list(hidden.shape)}")
    except ConfigError:
        raise
    except Exception as error:  # more tokens than it has positions, or no encoder of words at all
        reason = " ".join(str(error).split())[:120]
        raise ConfigError(
            f"{field}: {type(network).__name__} cannot read rows of {modality.shape[0]} tokens ({reason}); lower the "
            "source's length:, or choose an encoder of words"
        ) from None
    return hidden.shape[-1]


def _check_ids(known: int, given: int, field: str) -> None:
    if field == "config" and given > known:
        raise ConfigError(f"config.vocab_size: {known} is below the words' {given} token ids; leave it out")
    if field == "pretrained" and not known - SPARE_IDS <= given <= known:
        raise ConfigError(
            f"pretrained: the model has {known} token ids and the words come in {given}; set the source's tokenizer: "
            "to the model's own name"
        )
