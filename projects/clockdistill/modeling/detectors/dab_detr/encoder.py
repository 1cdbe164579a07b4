"""DAB-DETR's encoder: dense attention whose positions are scaled by contents."""

from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.dab_detr.layers import DenseEncoderLayer
from projects.clockdistill.modeling.detectors.layers.feed_forward import MLP


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
        post_norm: a further norm at the end.
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
        self.embed_dim = embed_dim
        self.num_layers = num_layers
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
        self.post_norm_layer = nn.LayerNorm(embed_dim) if post_norm else None

    def forward(
        self,
        query: Tensor,
        key: None = None,
        value: None = None,
        *,
        query_pos: Tensor,
        query_key_padding_mask: Tensor | None,
    ) -> Tensor:
        """Lets the tokens look at each other. Names and layout are detrex's: hooks read them.

        Args:
            query: (S, B, D) tokens.
            key: unused; the tokens attend to themselves.
            value: unused.
            query_pos: (S, B, D).
            query_key_padding_mask: (B, S) bool, True = padding.

        Returns:
            memory (S, B, D). Values at padded tokens mean nothing.
        """
        tokens, positions = query.transpose(0, 1), query_pos.transpose(0, 1)
        for layer in self.layers:
            tokens = layer(tokens, positions * self.query_scale(tokens), query_key_padding_mask)
        if self.post_norm_layer is not None:
            tokens = self.post_norm_layer(tokens)
        return tokens.transpose(0, 1)
