import pytest
import torch

from mmfaseg.models.layers import MultiheadAttention
from mmfaseg.testing import assert_close


def _pair():
    ours = MultiheadAttention(16, 4).double()
    peer = torch.nn.MultiheadAttention(16, 4, batch_first=True).double()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter)
    peer.load_state_dict(ours.state_dict())  # the names are the same
    return ours, peer


@pytest.mark.parametrize('need_attention', [False, True])
@pytest.mark.parametrize('masked', [False, True])
def test_equals_torch_attention(need_attention, masked):
    ours, peer = _pair()
    query, key, value = (
        torch.randn(2, n, 16, dtype=torch.float64) for n in (5, 11, 11)
    )
    blocked = torch.rand(2, 5, 11) < 0.5 if masked else None
    if masked:
        blocked[..., 0] = False
    peer_mask = blocked.repeat_interleave(4, 0) if masked else None
    expected, attention = peer(query, key, value, attn_mask=peer_mask)
    output, averaged = ours(query, key, value, blocked, need_attention)
    assert_close(output, expected)
    if need_attention:
        assert_close(averaged, attention)
    else:
        assert averaged is None


def test_a_row_mask_serves_all_queries():
    ours, _ = _pair()
    x = torch.randn(1, 6, 16, dtype=torch.float64)
    blocked = torch.tensor([[[False, True, False, True, True, False]]])
    kept = x[:, ~blocked[0, 0]]
    assert_close(ours(x, x, x, blocked)[0], ours(x, kept, kept)[0])


def test_heads_must_divide_channels():
    with pytest.raises(ValueError, match=r'embed_dims=16.*num_heads=3'):
        MultiheadAttention(16, 3)
