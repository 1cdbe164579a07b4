"""DAB-DETR's transformer: a dense encoder, and a decoder whose queries are anchor boxes."""

import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.dab_detr.attention import (
    ConditionalCrossAttention,
    ConditionalSelfAttention,
)
from projects.clockdistill.modeling.detectors.layers.attention import QueryBlocks, SelfAttention
from projects.clockdistill.modeling.detectors.layers.boxes import boxes_around
from projects.clockdistill.modeling.detectors.layers.feed_forward import FFN, MLP
from projects.clockdistill.modeling.detectors.layers.position_encoding import reference_features

# Smallest side of an anchor that attention is modulated by, in [0, 1] of the image: a tenth of a
# pixel at the usual sizes. Its inverse is finite in half precision.
MIN_SIDE = 1e-4


class DenseEncoderLayer(nn.Module):
    """Self-attention of the tokens, then a feed-forward part; norms after each residual.

    Source: DETR (arXiv:2005.12872), appendix A.3.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        feedforward_dim: int,
        attn_dropout: float,
        ffn_dropout: float,
        activation: nn.Module,
    ):
        super().__init__()
        # Lists, because the checkpoint keys count within each kind.
        self.attentions = nn.ModuleList([SelfAttention(embed_dim, num_heads, attn_dropout)])
        self.ffns = nn.ModuleList([FFN(embed_dim, feedforward_dim, ffn_dropout, activation)])
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dim) for _ in range(2))

    def forward(self, query: Tensor, query_pos: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Maps tokens (B, S, D) to tokens (B, S, D); `padding_mask` (B, S), True = padding."""
        attended = self.attentions[0](query, query_pos, key_padding_mask=padding_mask)
        query = self.norms[0](query + attended)
        return self.norms[1](query + self.ffns[0](query))


class DABDETRTransformerEncoder(nn.Module):
    """Dense encoder layers in a row.

    Source: DETR (arXiv:2005.12872), appendix A.3. Differs as detrex's does: contents scale the
    positions in every layer, as DAB-DETR (arXiv:2201.12329), eq. (4), has it in the decoder.

    Args:
        embed_dim: width of the tokens.
        num_heads: attention heads.
        feedforward_dim: hidden width of the feed-forward parts.
        attn_dropout: on the attention weights.
        ffn_dropout: inside and after the feed-forward parts.
        num_layers: layers.
        activation: of the feed-forward parts, copied for each; PReLU by default.
        post_norm: detrex's option of a further norm at the end; only False is supported.

    Raises:
        ValueError: if `post_norm` is True.
    """

    def __init__(
        self,
        embed_dim: int = 256,
        num_heads: int = 8,
        feedforward_dim: int = 2048,
        attn_dropout: float = 0.1,
        ffn_dropout: float = 0.1,
        num_layers: int = 6,
        activation: nn.Module | None = None,
        post_norm: bool = False,
    ):
        super().__init__()
        if post_norm:
            raise ValueError("encoder.post_norm=True is not supported. Fix: leave it at False")
        self.embed_dim = embed_dim
        self.layers = nn.ModuleList(
            DenseEncoderLayer(
                embed_dim,
                num_heads,
                feedforward_dim,
                attn_dropout,
                ffn_dropout,
                nn.PReLU() if activation is None else activation,
            )
            for _ in range(num_layers)
        )
        self.query_scale = MLP(embed_dim, embed_dim, embed_dim, 2)

    def forward(
        self, query: Tensor, query_pos: Tensor, query_key_padding_mask: Tensor | None
    ) -> Tensor:
        """Lets the tokens look at each other. The layout is detrex's: hooks read the memory.

        Args:
            query: (S, B, D) tokens.
            query_pos: (S, B, D).
            query_key_padding_mask: (B, S) bool, True = padding.

        Returns:
            memory (S, B, D). Values at padded tokens mean nothing.
        """
        tokens, positions = query.transpose(0, 1), query_pos.transpose(0, 1)
        for layer in self.layers:
            tokens = layer(tokens, positions * self.query_scale(tokens), query_key_padding_mask)
        return tokens.transpose(0, 1)


class ConditionalDecoderLayer(nn.Module):
    """Self-attention of the queries, attention to the memory, feed-forward part.

    Source: Conditional DETR (arXiv:2108.06152), section 3; norms after each residual.

    Arguments that are not listed are those of `DABDETRTransformerDecoder`.

    Args:
        is_first: whether the attention to the memory adds positions to the contents.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        feedforward_dim: int,
        attn_dropout: float,
        ffn_dropout: float,
        activation: nn.Module,
        is_first: bool,
    ):
        super().__init__()
        # Lists, because the checkpoint keys count within each kind.
        self.attentions = nn.ModuleList(
            [
                ConditionalSelfAttention(embed_dim, num_heads, attn_dropout),
                ConditionalCrossAttention(embed_dim, num_heads, attn_dropout, is_first),
            ]
        )
        self.ffns = nn.ModuleList([FFN(embed_dim, feedforward_dim, ffn_dropout, activation)])
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dim) for _ in range(3))

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        query_sine: Tensor,
        memory: Tensor,
        memory_pos: Tensor,
        memory_padding_mask: Tensor | None = None,
        attn_mask: Tensor | QueryBlocks | None = None,
        query_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Maps queries (B, Q, D) to queries (B, Q, D).

        Args:
            query: (B, Q, D).
            query_pos: (B, Q, D) for the self-attention and the first layer's contents.
            query_sine: (B, Q, D) for the attention to the memory.
            memory: (B, S, D).
            memory_pos: (B, S, D).
            memory_padding_mask: (B, S) bool, True = padding.
            attn_mask: of the self-attention: (Q, Q) bool, True = blocked, or the queries' blocks.
            query_padding_mask: (B, Q) bool, True = seen by no other query.
        """
        query = self.norms[0](
            query + self.attentions[0](query, query_pos, attn_mask, query_padding_mask)
        )
        attended = self.attentions[1](
            query, query_pos, query_sine, memory, memory_pos, memory_padding_mask
        )
        query = self.norms[1](query + attended)
        return self.norms[2](query + self.ffns[0](query))


class DABDETRTransformerDecoder(nn.Module):
    """Decoder layers that refine anchor boxes by one shared head.

    Source: DAB-DETR (arXiv:2201.12329), section 4: position queries from anchors, eq. (1), (2) and
    (4); update of the anchors, section 4.3; width and height modulated attention, eq. (6). Differs
    as detrex's does: anchors are encoded with temperature 10000 (the paper: 20), contents scale no
    positions in the first layer, and a box loss also trains the layer before, as later in DINO
    (arXiv:2203.03605), section 3.5.

    The detector that owns the box head sets `bbox_embed`.

    Arguments that are not listed are those of `DABDETRTransformerEncoder`.

    Args:
        embed_dim: width of the queries, divisible by 4.
        modulate_hw_attn: anchors' widths and heights shape the attention to the memory.
        post_norm: one norm, shared by all layers, on what they give out.
    """

    bbox_embed: nn.Module

    def __init__(
        self,
        embed_dim: int = 256,
        num_heads: int = 8,
        feedforward_dim: int = 2048,
        attn_dropout: float = 0.0,
        ffn_dropout: float = 0.0,
        num_layers: int = 6,
        activation: nn.Module | None = None,
        modulate_hw_attn: bool = True,
        post_norm: bool = True,
    ):
        super().__init__()
        if embed_dim % 4:
            raise ValueError(f"embed_dim must be divisible by 4, got {embed_dim}")
        self.embed_dim = embed_dim
        self.num_layers = num_layers
        self.layers = nn.ModuleList(
            ConditionalDecoderLayer(
                embed_dim,
                num_heads,
                feedforward_dim,
                attn_dropout,
                ffn_dropout,
                nn.PReLU() if activation is None else activation,
                is_first=number == 0,
            )
            for number in range(num_layers)
        )
        self.query_scale = MLP(embed_dim, embed_dim, embed_dim, 2)
        # embed_dim / 2 sine features for each of the four coordinates of an anchor
        self.ref_point_head = MLP(2 * embed_dim, embed_dim, embed_dim, 2)
        self.ref_anchor_head = MLP(embed_dim, embed_dim, 2, 2) if modulate_hw_attn else None
        self.post_norm_layer = nn.LayerNorm(embed_dim) if post_norm else None

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        *,
        key_pos: Tensor,
        key_padding_mask: Tensor | None,
        anchor_box_embed: Tensor,
        attn_masks: list[Tensor | QueryBlocks | None] | None = None,
        query_key_padding_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Runs all layers.

        Names and layouts are detrex's, and calls are by keyword: the same forward hooks append
        queries to our decoders and to detrex's.

        Args:
            query: (Q, B, D), the Q axis being [matching | appended].
            value: (S, B, D) memory, which also gives the keys.
            key_pos: (S, B, D).
            key_padding_mask: (B, S) bool, True = padding.
            anchor_box_embed: (Q, B, 4) cxcywh before sigmoid.
            attn_masks: one for each attention of a layer, of which the second has none: [(Q, Q)
                bool with True = blocked, or the queries' blocks, or None; None].
            query_key_padding_mask: (B, Q) bool, True = seen by no query in self-attention.

        Returns:
            hidden_states: (E, B, Q, D), normed output of each layer.
            reference_boxes: (E, B, Q, 4) in [0, 1]: what each layer's box offsets add to.
        """
        attn_mask = attn_masks[0] if attn_masks is not None else None
        query, memory, memory_pos = (x.transpose(0, 1) for x in (query, value, key_pos))
        reference = anchor_box_embed.transpose(0, 1).sigmoid()
        states, references = [], [reference]
        for number, layer in enumerate(self.layers):
            features = reference_features(reference, self.embed_dim // 2)
            sine = features[..., : self.embed_dim]  # of y, then of x
            if number > 0:
                sine = sine * self.query_scale(query)
            if self.ref_anchor_head is not None:
                sine = self.modulated(sine, query, reference)
            query = layer(
                query,
                self.ref_point_head(features),
                sine,
                memory,
                memory_pos,
                key_padding_mask,
                attn_mask,
                query_key_padding_mask,
            )
            states.append(query if self.post_norm_layer is None else self.post_norm_layer(query))
            if number < self.num_layers - 1:
                references.append(boxes_around(reference, self.bbox_embed(query)))
                reference = references[-1].detach()
        return torch.stack(states), torch.stack(references)

    def modulated(self, sine: Tensor, query: Tensor, reference: Tensor) -> Tensor:
        """Sharpens the attention along a side of the anchor that is shorter than expected.

        Source: DAB-DETR (arXiv:2201.12329), eq. (6) and (7).

        Args:
            sine: (B, Q, D), the features of y in the first half, of x in the second.
            query: (B, Q, D), which says the width and height to expect.
            reference: (B, Q, 4) cxcywh in [0, 1].
        """
        expected = self.ref_anchor_head(query).sigmoid()  # width, height
        width, height = (expected / reference[..., 2:].clamp(min=MIN_SIDE)).unbind(-1)
        scale = torch.stack((height, width), dim=-1)[..., None]
        return (sine.unflatten(-1, (2, -1)) * scale).flatten(-2)


class DABDETRTransformer(nn.Module):
    """Encoder and decoder on one feature level.

    Source: DAB-DETR (arXiv:2201.12329), section 4; patterns as in Anchor DETR (arXiv:2109.07107),
    section 3.2.

    Args:
        encoder: makes the memory.
        decoder: reads it; its box head is set by the detector.
        num_patterns: learned contents, each of which goes with every anchor; with 0 one content of
            zeros, which is not learned, goes with every anchor.
    """

    def __init__(
        self,
        encoder: DABDETRTransformerEncoder,
        decoder: DABDETRTransformerDecoder,
        num_patterns: int = 0,
    ):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.embed_dim = encoder.embed_dim
        self.num_patterns = num_patterns
        if num_patterns:
            self.patterns = nn.Embedding(num_patterns, self.embed_dim)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(
        self, features: Tensor, mask: Tensor, anchor_box_embed: Tensor, position_encoding: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Runs encoder and decoder.

        Args:
            features: (B, D, H, W).
            mask: (B, H, W) bool, True = padding.
            anchor_box_embed: (A, 4) cxcywh before sigmoid.
            position_encoding: (B, D, H, W).

        Returns:
            hidden_states: (E, B, Q, D) normed decoder outputs; Q = A * max(1, num_patterns),
                pattern after pattern.
            reference_boxes: (E, B, Q, 4) in [0, 1]: what each layer's box offsets add to.

        Raises:
            ValueError: if features and position encoding differ in width.
        """
        if position_encoding.shape[1] != features.shape[1]:
            raise ValueError(
                f"position_embedding gives {position_encoding.shape[1]} channels, input_proj "
                f"{features.shape[1]}. Fix: set position_embedding.num_pos_feats to embed_dim / 2"
            )
        padding_mask = mask.flatten(1)
        # Made contiguous once; encoder and decoder take views, sequence first as detrex's do.
        tokens, positions = (
            x.flatten(2).transpose(1, 2).contiguous().transpose(0, 1)
            for x in (features, position_encoding)
        )
        memory = self.encoder(
            query=tokens, query_pos=positions, query_key_padding_mask=padding_mask
        )
        anchors, batch = anchor_box_embed, features.shape[0]
        if self.num_patterns:
            content = self.patterns.weight.repeat_interleave(anchors.shape[0], dim=0)
            anchors = anchors.repeat(self.num_patterns, 1)
        else:
            content = features.new_zeros(anchors.shape[0], self.embed_dim)
        return self.decoder(
            query=content[:, None].expand(-1, batch, -1),
            value=memory,
            key_pos=positions,
            key_padding_mask=padding_mask,
            anchor_box_embed=anchors[:, None].expand(-1, batch, -1),
        )
