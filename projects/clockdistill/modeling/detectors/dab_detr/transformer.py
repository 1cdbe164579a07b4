"""DAB-DETR's transformer: one level of tokens, learned anchors, encoder, decoder."""

from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.dab_detr.decoder import DABDETRTransformerDecoder
from projects.clockdistill.modeling.detectors.dab_detr.encoder import DABDETRTransformerEncoder


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
