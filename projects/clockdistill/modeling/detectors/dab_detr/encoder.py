"""DAB-DETR's encoder: dense attention whose positions are scaled by contents."""

from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.layers.attention import SelfAttention
from projects.clockdistill.modeling.detectors.layers.feed_forward import FFN, MLP


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
