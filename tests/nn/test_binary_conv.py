"""Binary convolutions equal float convolutions of the weights that they stand for."""

import pytest
import torch
import torch.nn.functional as F

from tvm_bnn.nn import BinaryConv2d, BinaryConvTranspose2d, binary_weight


def _bits(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, shape, generator=generator).float() * 2 - 1


def _plain_weight(weight: torch.Tensor, filter_axis: int = 0) -> torch.Tensor:
    """sign(w) * mean|w| for each filter, one filter at a time."""
    filters = []
    for part in weight.detach().unbind(filter_axis):
        filters.append(torch.where(part >= 0, 1.0, -1.0) * part.abs().sum() / part.numel())
    return torch.stack(filters, filter_axis)


def test_binary_weight_has_two_levels_a_filter():
    weight = torch.tensor([[1.0, -3.0], [0.0, -0.5]]).reshape(2, 2, 1, 1)
    assert binary_weight(weight).flatten(1).tolist() == [[2.0, -2.0], [0.25, -0.25]]


def test_a_layer_may_have_one_scale():
    conv = BinaryConv2d(1, 2, 1, scale="layer")
    conv.weight.data = torch.tensor([1.0, -4.0]).reshape(2, 1, 1, 1)
    assert conv(torch.ones(1, 1, 1, 1)).flatten().tolist() == [2.5, -2.5]
    with pytest.raises(ValueError, match="scale is 'channel'; accepted: filter, layer"):
        BinaryConv2d(1, 2, 1, scale="channel")


def test_scale_passes_a_gradient_only_when_it_is_not_detached():
    weight = torch.tensor([4.0, -4.0]).reshape(1, 2, 1, 1).requires_grad_()
    (fixed,) = torch.autograd.grad(binary_weight(weight)[0, 0, 0, 0], weight)
    (free,) = torch.autograd.grad(binary_weight(weight, detach_scale=False)[0, 0, 0, 0], weight)
    # |w| > 1, so clip stops the gradient of the sign; d(mean|w|)/dw is sign(w) / 2
    assert fixed.flatten().tolist() == [0, 0]
    assert free.flatten().tolist() == [0.5, -0.5]


@pytest.mark.parametrize("padding_value", [0, 1, -1])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "groups"),
    [
        (1, 1, 0, 1, 1),
        (3, 1, 1, 1, 1),
        (3, 2, 1, 1, 1),
        (3, 1, 2, 2, 3),
        (5, 3, 2, 1, 6),
        ((3, 5), (1, 2), (0, 2), (2, 1), 1),
        (2, 1, 1, 1, 1),
    ],
)
def test_forward(padding_value: int, kernel, stride, padding, dilation, groups):
    torch.manual_seed(1)
    module = BinaryConv2d(6, 12, kernel, stride, padding, dilation, groups, bias=True, padding_value=padding_value)
    assert module.bias is not None
    torch.nn.init.normal_(module.bias)
    x = _bits(2, 6, 11, 13)
    rows, columns = module.padding
    framed = torch.full((2, 6, 11 + 2 * rows, 13 + 2 * columns), float(padding_value))
    framed[:, :, rows : rows + 11, columns : columns + 13] = x
    expected = F.conv2d(framed, _plain_weight(module.weight), module.bias, stride, 0, dilation, groups)
    torch.testing.assert_close(module(x), expected)


def test_padding_values_differ_at_the_border_only():
    torch.manual_seed(2)
    modules = [BinaryConv2d(4, 8, 3, padding=1, padding_value=value) for value in (0, 1, -1)]
    for module in modules[1:]:
        module.load_state_dict(modules[0].state_dict())
    zero, plus, minus = (module(_bits(1, 4, 6, 6)) for module in modules)
    torch.testing.assert_close(plus[..., 1:-1, 1:-1], zero[..., 1:-1, 1:-1])
    torch.testing.assert_close((plus + minus) / 2, zero)
    assert not torch.allclose(plus[..., 0, :], minus[..., 0, :])


def test_binarize_input_takes_the_sign_first():
    torch.manual_seed(3)
    module = BinaryConv2d(4, 5, 3, padding=1, padding_value=1, binarize_input=True)
    x = torch.randn(1, 4, 5, 5)
    x[0, 0, 0, 0] = 0.0
    plain = BinaryConv2d(4, 5, 3, padding=1, padding_value=1)
    plain.load_state_dict(module.state_dict())
    assert torch.equal(module(x), plain(torch.where(x >= 0, 1.0, -1.0)))


def test_gradients_reach_input_and_latent_weights():
    torch.manual_seed(4)
    module = BinaryConv2d(3, 4, 3, padding=1, binarize_input=True)
    x = (torch.randn(1, 3, 4, 4) * 2).requires_grad_()
    module(x).sum().backward()
    assert x.grad is not None and module.weight.grad is not None
    assert torch.equal(x.grad[x.detach().abs() > 1], torch.zeros(int((x.detach().abs() > 1).sum())))
    assert (x.grad[x.detach().abs() <= 1] != 0).any() and (module.weight.grad != 0).any()


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(4, 2, 1), (2, 2, 0), (3, 1, 1), (5, 3, 1)])
def test_transposed_forward(kernel: int, stride: int, padding: int):
    torch.manual_seed(5)
    module = BinaryConvTranspose2d(6, 4, kernel, stride, padding)
    x = _bits(1, 6, 5, 7)
    expected = F.conv_transpose2d(x, _plain_weight(module.weight, filter_axis=1), None, stride, padding)
    torch.testing.assert_close(module(x), expected)


def test_refusals():
    with pytest.raises(ValueError, match="padding_value is 2; accepted: 0, 1, -1"):
        BinaryConv2d(4, 4, 3, padding_value=2)
    with pytest.raises(ValueError, match="6 -> 4 channels cannot be split into 3 groups"):
        BinaryConv2d(6, 4, 3, groups=3)
