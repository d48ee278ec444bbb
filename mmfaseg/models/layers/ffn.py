"""Feed-forward network of encoder and decoder layers."""

from torch import nn


def make_ffn(embed_dims: int, feedforward_channels: int) -> nn.Sequential:
    """Returns Linear, ReLU and Linear, without residual connection and norm.

    Args:
        embed_dims (int): input and output channels.
        feedforward_channels (int): hidden channels.
    """
    first = nn.Linear(embed_dims, feedforward_channels)
    second = nn.Linear(feedforward_channels, embed_dims)
    for linear in (first, second):
        nn.init.xavier_uniform_(linear.weight)
    return nn.Sequential(first, nn.ReLU(inplace=True), second)
