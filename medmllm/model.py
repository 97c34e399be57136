"""The multimodal model: pictures, their priors and regions in; words, regions and masks out.

A transformers model like any other (`save_pretrained`, `from_pretrained`, safetensors, Auto classes). Its decoder is
any causal language model of transformers: one field of the configuration. Pictures are encoded once (`encode`), and
what they became serves the report, every region and every question after it.

In the text a picture, a volume and a slice stand as runs of their own placeholder token, as many as they have tokens
(`tokens_of_picture`, `tokens_of_volume`), and a region as one; they are filled in the order in which they come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

from medmllm.connector import Outlined, OutlineTokens, PlainPacker, RegionTokens, TemporalAlignment, TokenPacker
from medmllm.images import Encoded, Images, Pictured, Regions
from medmllm.losses import COURSES, SIDES, OutlineTargets, mask_losses, outline_losses, word_losses
from medmllm.vision import LAYERS, STRIDE, PictureEncoder, VolumeEncoder

WINDOWS = 3  # channels of a CT slice: lung, mediastinal and bone window


class WetreadConfig(PretrainedConfig):
    """Sizes of the model.

    decoder: configuration of the causal language model, or its dictionary. width: features of a patch. heads: of every
    attention of the connector, dividing width. side: rows and columns of a picture or of a slice at full detail;
    slice_side: of every slice of a volume; both multiples of 32. slabs: of a volume; 0 for a model of radiographs,
    without an eye for volumes and slices. packing: patches of a token along each axis; 1 switches token packing off.
    per_patch: see TemporalAlignment. outlined: what is outlined on a picture, each with a token of its own.
    said_token_ids: the words for each of these, then for each side and course (losses.SIDES, losses.COURSES), two of
    each; () where what is outlined is not said in words. sided, followed: of what is outlined, what is learned to be on
    a side, and what to be there and to change; None: all. *_token_id: placeholders and <SEG>.
    """

    model_type = "wetread"
    sub_configs: ClassVar[dict[str, Any]] = {"decoder": AutoConfig}

    def __init__(
        self,
        decoder: PretrainedConfig | dict[str, Any] | None = None,
        width: int = 192,
        heads: int = 6,
        side: int = 256,
        slice_side: int = 128,
        slabs: int = 8,
        packing: int = 2,
        per_patch: bool = True,
        outlined: Sequence[str] = (),
        said_token_ids: Sequence[Sequence[int]] = (),
        sided: Sequence[str] | None = None,
        followed: Sequence[str] | None = None,
        dropout: float = 0.1,
        picture_token_id: int = 0,
        volume_token_id: int = 1,
        slice_token_id: int = 2,
        region_token_id: int = 3,
        seg_token_id: int = 4,
        **kwargs: Any,
    ) -> None:
        if isinstance(decoder, dict):
            decoder = AutoConfig.for_model(**decoder)
        self.decoder = decoder if decoder is not None else AutoConfig.for_model("llama")
        self.width = width
        self.heads = heads
        self.side = side
        self.slice_side = slice_side
        self.slabs = slabs
        self.packing = packing
        self.per_patch = per_patch
        self.outlined = list(outlined)
        self.said_token_ids = [list(each) for each in said_token_ids]
        self.sided = self.outlined if sided is None else list(sided)
        self.followed = self.outlined if followed is None else list(followed)
        self.dropout = dropout
        self.picture_token_id = picture_token_id
        self.volume_token_id = volume_token_id
        self.slice_token_id = slice_token_id
        self.region_token_id = region_token_id
        self.seg_token_id = seg_token_id
        super().__init__(**kwargs)

    def get_text_config(self, *args: Any, **kwargs: Any) -> PretrainedConfig:
        """The decoder's, which is what generation asks for."""
        return self.decoder


@dataclass
class WetreadOutput(ModelOutput):
    """loss: of what has targets: words, masks, outlines. logits: (B, T, vocabulary). masks: (N, side / 4, side / 4)."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    masks: Tensor | None = None
    word_loss: Tensor | None = None
    mask_loss: Tensor | None = None
    outline_loss: Tensor | None = None


class WetreadForReporting(PreTrainedModel):
    """The whole model."""

    config_class = WetreadConfig
    base_model_prefix = "wetread"
    _supports_sdpa = True

    def __init__(self, config: WetreadConfig) -> None:
        super().__init__(config)
        words = len(config.outlined) + SIDES + len(COURSES) + 1
        if config.said_token_ids and len(config.said_token_ids) != words:
            raise ValueError(f"{len(config.said_token_ids)} words for what is outlined, {words} are needed")
        width, heads, out = config.width, config.heads, config.decoder.hidden_size
        layers = len(LAYERS)
        self.picture_encoder = PictureEncoder(width, 1)
        self.alignment = TemporalAlignment(width, layers, heads, config.dropout, config.per_patch)
        if config.slabs:
            self.volume_encoder = VolumeEncoder(width, WINDOWS, config.slabs)
            self.volume_alignment = TemporalAlignment(width, layers, heads, config.dropout, config.per_patch)
        self.packer: TokenPacker | PlainPacker = (
            PlainPacker(width, out) if config.packing == 1 else TokenPacker(width, layers, config.packing, heads, out)
        )
        if config.outlined:
            self.outline_tokens = OutlineTokens(width, len(config.outlined), heads, out, config.dropout)
            self.told = nn.Linear(out, SIDES + len(COURSES) + 1)  # on which sides, and what became of it
            self.loudness = nn.Parameter(torch.tensor(10.0))  # of words, whose embeddings are small, among the tokens
        self.region_tokens = RegionTokens(width, out)
        self.to_mask = nn.Sequential(nn.Linear(out, width), nn.ReLU(), nn.Linear(width, width + 1))
        self.decoder = AutoModelForCausalLM.from_config(config.decoder)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """The decoder's layers start as transformers starts them, all others as their own class does."""
        if any(module is each for each in self.decoder.modules()):
            super()._init_weights(module)

    @classmethod
    def kept_in(cls, folder: Path) -> WetreadForReporting:
        """The model of a folder, in 32 bit. ValueError for one that lacks a weight, as of an older version."""
        loaded: Any = cls.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
        model, known = loaded
        if missing := known["missing_keys"]:
            raise ValueError(f"{folder} holds a model of another version: it has no {min(missing)}")
        kept: WetreadForReporting = model
        return kept

    def get_input_embeddings(self) -> nn.Module:
        """The decoder's."""
        embeddings: nn.Module = self.decoder.get_input_embeddings()
        return embeddings

    def tokens_of_picture(self) -> int:
        """Placeholders of a picture."""
        return self.tokens_of_slice() + len(self.config.outlined)

    def tokens_of_slice(self) -> int:
        """Placeholders of a slice."""
        return self.packer.tokens(self.config.side // STRIDE)

    def tokens_of_volume(self) -> int:
        """Placeholders of a volume."""
        return int(self.config.slabs) * self.packer.tokens(self.config.slice_side // STRIDE)

    def encode(self, images: Images) -> Encoded:
        """Every image once. ValueError for volumes and slices where the model reads none."""
        if not self.config.slabs and (images.volumes or images.slices is not None):
            raise ValueError("this model reads radiographs alone")
        features, fine = [], []
        picture_tokens = volume_tokens = slice_tokens = outlined = None
        if images.pictures is not None or images.pictured is not None:
            pictured, outlined = (images.pictured, None) if images.pictured else self.see(images)
            told = self._told(pictured)
            picture_tokens = (told if images.shown is None else told[images.shown]).flatten(0, 1)
            features.append(pictured.features)
            fine.append(pictured.fine)
        if images.volumes:
            volume_tokens = torch.cat([self._volume(*each) for each in self._with_priors(images)])
        if images.slices is not None:
            seen = self.volume_encoder.pictures(images.slices)
            absent = torch.zeros(len(images.slices), dtype=torch.bool, device=seen.layers.device)
            aligned = self.volume_alignment(seen.layers, seen.layers, absent)
            slice_tokens = self.packer(aligned, seen.layers).flatten(0, 1)
            features.append(aligned)
            fine.append(seen.fine)
        return Encoded(
            picture_tokens,
            volume_tokens,
            slice_tokens,
            torch.cat(features) if features else None,
            torch.cat(fine) if fine else None,
            outlined,
        )

    def see(self, images: Images) -> tuple[Pictured, Outlined | None]:
        """The pictures of a batch and their priors, before a word of the decoder is added, and what is outlined there.

        ValueError without pictures.
        """
        if images.pictures is None:
            raise ValueError("there is no picture to see")
        seen = self.picture_encoder(images.pictures)
        has_prior = images.has_prior
        if has_prior is None:
            there = images.priors is not None
            has_prior = torch.full((len(images.pictures),), there, device=images.pictures.device)
        then, fine_then = seen.layers, seen.fine  # where there is no prior, what stands here is not looked at
        if images.priors is not None and len(rows := has_prior.nonzero()[:, 0]):
            earlier = self.picture_encoder(images.priors[rows])
            then, fine_then = then.index_copy(0, rows, earlier.layers), fine_then.index_copy(0, rows, earlier.fine)
        aligned = self.alignment(seen.layers, then, has_prior)
        packed = self.packer(aligned, seen.layers)
        outlined = self.outline_tokens(seen.fine, fine_then, has_prior) if self.config.outlined else None
        return Pictured(packed, aligned, seen.fine, has_prior, outlined and outlined.tokens), outlined

    def _told(self, pictured: Pictured) -> Tensor:
        """(B, tokens of a picture, hidden): what was packed, then what is outlined, as it is said."""
        if pictured.outlined is None:
            return pictured.packed
        told = pictured.outlined
        if self.config.said_token_ids:
            told = told + self._said(told, pictured.has_prior)
        return torch.cat([pictured.packed, told.to(pictured.packed.dtype)], dim=1)

    def _said(self, tokens: Tensor, has_prior: Tensor) -> Tensor:
        """What is outlined, and as far as `told` is sure on which sides and what became of it, as the decoder's words.

        tokens: (B, K, hidden) -> the same. Nothing became of it where there is no prior.
        """
        ids = torch.tensor(self.config.said_token_ids, device=tokens.device)
        words = self.get_input_embeddings()(ids).mean(dim=1)
        names, courses = words.split([len(self.config.outlined), SIDES + len(COURSES) + 1])
        told = self.told(tokens)
        became = told[..., SIDES:].softmax(dim=-1) * has_prior[:, None, None]
        sure = torch.cat([told[..., :SIDES].sigmoid(), became], dim=-1) * self._taught(told)
        said: Tensor = self.loudness * (names + sure.to(words.dtype) @ courses)
        return said

    def _taught(self, like: Tensor) -> Tensor:
        """(K, sides and courses): 1 where `told` was taught something of a thing, else 0."""
        sided, followed = self.config.sided, self.config.followed
        rows = [
            [each in sided] * (SIDES - 1) + [each in followed] * (1 + len(COURSES) + 1) for each in self.config.outlined
        ]
        return torch.tensor(rows, dtype=like.dtype, device=like.device)

    def embedded(self, input_ids: Tensor, encoded: Encoded, regions: Regions | None = None) -> Tensor:
        """(B, T) -> (B, T, hidden): words as the decoder embeds them, placeholders as what they stand for.

        ValueError when a kind's placeholders are not as many as its tokens.
        """
        words: Tensor = self.get_input_embeddings()(input_ids)
        of_regions = None
        if regions is not None and len(regions.owners):
            if encoded.features is None:
                raise ValueError("regions were given, but no picture or slice that they could lie on")
            of_regions = self.region_tokens(encoded.features[regions.owners], regions.masks, regions.boxes)
        for token_id, tokens, name in (
            (self.config.picture_token_id, encoded.picture_tokens, "pictures"),
            (self.config.volume_token_id, encoded.volume_tokens, "volumes"),
            (self.config.slice_token_id, encoded.slice_tokens, "slices"),
            (self.config.region_token_id, of_regions, "regions"),
        ):
            here = input_ids == token_id
            there = 0 if tokens is None else len(tokens)
            if int(here.sum()) != there:
                raise ValueError(f"the text has {int(here.sum())} placeholders of {name}, the images give {there}")
            if tokens is not None:
                words = words.masked_scatter(here[..., None], tokens.to(words.dtype))
        return words

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        images: Images | None = None,
        regions: Regions | None = None,
        encoded: Encoded | None = None,
        mask_owners: Tensor | None = None,
        mask_targets: Tensor | None = None,
        outline_targets: OutlineTargets | None = None,
    ) -> WetreadOutput:
        """Logits, and a mask for every <SEG> of the text when mask_owners says on which plane each lies.

        input_ids, attention_mask, labels: (B, T); labels of -100 are not learned. encoded: used instead of images.
        mask_owners: (N,) whose plane, as Regions.owners. mask_targets: (N, side / 4, side / 4) in [0, 1].
        ValueError for outline_targets where nothing is outlined.
        """
        encoded = encoded or self.encode(images or Images())
        embedded = self.embedded(input_ids, encoded, regions)
        out = self.decoder(
            inputs_embeds=embedded,
            attention_mask=attention_mask,
            output_hidden_states=mask_owners is not None,
        )
        word_loss = None if labels is None else word_losses(out.logits, labels)
        masks = mask_loss = None
        if mask_owners is not None:
            masks = self.masks(out.hidden_states[-1][input_ids == self.config.seg_token_id], encoded, mask_owners)
            if mask_targets is not None:
                mask_loss = mask_losses(masks, mask_targets)
        outline_loss = None if outline_targets is None else self.outline_loss(encoded, outline_targets)
        losses = [each for each in (word_loss, mask_loss, outline_loss) if each is not None]
        loss = torch.stack(losses).sum() if losses else None
        return WetreadOutput(loss, out.logits, masks, word_loss, mask_loss, outline_loss)

    def outline_loss(self, encoded: Encoded, targets: OutlineTargets) -> Tensor:
        """Of the outlines alone, without any word. ValueError where nothing is outlined."""
        if encoded.outlined is None:
            raise ValueError("outlines were given to a model that outlines nothing")
        return outline_losses(encoded.outlined, self.told(encoded.outlined.tokens), targets)

    def masks(self, states: Tensor, encoded: Encoded, owners: Tensor) -> Tensor:
        """Logits (N, side / 4, side / 4) of the decoder's states (N, hidden) at each <SEG>, on the planes of `owners`.

        ValueError when there are not as many owners as states: a mask without a <SEG>, or one without a plane.
        """
        if len(states) != len(owners) or encoded.fine is None:
            raise ValueError(f"{len(states)} <SEG> in the text, {len(owners)} planes named for them")
        kernel = self.to_mask(states)
        weight, bias = kernel[:, :-1], kernel[:, -1]
        scale = weight.shape[1] ** -0.5
        logits: Tensor = torch.einsum("nd,ndhw->nhw", weight * scale, encoded.fine[owners]) + bias[:, None, None]
        return logits

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        images: Images | None = None,
        regions: Regions | None = None,
        encoded: Encoded | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """New tokens (B, N), by transformers' generation with its own arguments; prompts are padded on the left."""
        encoded = encoded or self.encode(images or Images())
        attention_mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        new: Tensor = self.decoder.generate(
            inputs_embeds=self.embedded(input_ids, encoded, regions), attention_mask=attention_mask, **kwargs
        )
        return new

    def _with_priors(self, images: Images) -> list[tuple[Tensor, Tensor | None]]:
        priors = images.prior_volumes or [None] * len(images.volumes)
        return list(zip(images.volumes, priors, strict=True))

    def _volume(self, volume: Tensor, prior: Tensor | None) -> Tensor:
        layers = self.volume_encoder(volume)
        then = layers if prior is None else self.volume_encoder(prior)
        has_prior = torch.full((len(layers),), prior is not None, device=layers.device)
        tokens: Tensor = self.packer(self.volume_alignment(layers, then, has_prior), layers).flatten(0, 1)
        return tokens


AutoConfig.register(WetreadConfig.model_type, WetreadConfig)
AutoModelForCausalLM.register(WetreadConfig, WetreadForReporting)
