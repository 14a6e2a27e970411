import jax
import numpy as np
import pytest

from subsim.networks.cnn import make_cnn
from subsim.options import UserError


def convolved(x, kernel, bias):
    """A 3x3 convolution with stride 2 of an image with a border of zeros, pixel by pixel."""
    half = -(-len(x) // 2)
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    kernel = kernel.reshape(3, 3, x.shape[-1], -1)
    windows = [[padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] for j in range(half)] for i in range(half)]
    return np.array([[np.einsum("ijc,ijco->o", window, kernel) + bias for window in row] for row in windows])


@pytest.mark.parametrize(("side", "channels"), [(8, (4, 5)), (28, (2, 3)), (7, (3,)), (1, (2, 2))])
def test_the_cnn_is_the_textbook_one(side, channels, x64):
    network = make_cnn(side**2, 4, 3, channels=channels, init="torch")
    params = network.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (side**2,))
    h = np.asarray(x).reshape(side, side, 1)
    for layer in range(len(channels)):
        h = np.maximum(convolved(h, *(params["hidden"][layer][part][...] for part in ("kernel", "bias"))), 0)
    heads = [h.ravel() @ params[head]["kernel"][...] + params[head]["bias"][...] for head in ("class_head", "aux_head")]
    np.testing.assert_allclose(network.features(params, x), h.ravel(), atol=1e-12)
    np.testing.assert_allclose(network.apply(params, x), np.concatenate(heads), atol=1e-12)


def test_bad_options_are_one_sentence():
    for channels in ((), (0,)):
        with pytest.raises(UserError, match=r"^channels is \("):
            make_cnn(64, 4, 3, channels=channels)
    with pytest.raises(UserError, match=r"^The network cnn needs square images, but 65 pixels make none"):
        make_cnn(65, 4, 3)
