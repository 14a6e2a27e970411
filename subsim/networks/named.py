"""The named networks and their options."""

from dataclasses import dataclass
from typing import Literal, get_args

from subsim.networks.cnn import make_cnn
from subsim.networks.mlp import MLPConfig, make_mlp
from subsim.networks.network import Network
from subsim.networks.transformer import make_transformer
from subsim.options import require, require_choice, require_range

NetworkName = Literal["mlp", "linear", "cnn", "transformer"]
# Option -> the networks that have it.
_OF = {
    "activation": ("mlp",), "layer_norm": ("mlp",),
    "channels": ("cnn",), "patch": ("transformer",), "embedding": ("transformer",), "depth": ("transformer",),
    "heads": ("transformer",),
}  # fmt: skip


@dataclass(frozen=True)
class NetworkConfig(MLPConfig):
    """The name of the network and the options of all named networks."""

    network: NetworkName = "mlp"
    """mlp: the paper's network. linear: the two heads on the pixels. cnn and transformer: for square images."""
    channels: tuple[int, ...] = (16, 32)
    """Channels of each convolution (cnn only)."""
    patch: int = 4
    """Side of a patch in pixels (transformer only)."""
    embedding: int = 32
    """Units of a token (transformer only)."""
    depth: int = 2
    """Number of blocks (transformer only)."""
    heads: int = 2
    """Number of attention heads (transformer only)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("network", self.network, get_args(NetworkName))
        require_range(self, "channels", "patch", "embedding", "depth", "heads", least=1, whole=True)
        for option, networks in _OF.items():
            value, default = getattr(self, option), getattr(NetworkConfig, option)
            require(
                value == default or self.network in networks,
                f"{option} is {value}, but network is {self.network}: only {' and '.join(networks)} has it.",
            )


def make_network(config: NetworkConfig, n_pixels: int, n_class: int) -> Network:
    """Make the network that `config` names, for images of `n_pixels` pixels with `n_class` classes."""
    if config.network == "cnn":
        return make_cnn(n_pixels, n_class, config.n_aux, channels=config.channels, init=config.init)
    if config.network == "transformer":
        return make_transformer(
            n_pixels, n_class, config.n_aux, patch=config.patch, width=config.embedding, depth=config.depth,
            heads=config.heads, init=config.init,
        )  # fmt: skip
    if config.network == "linear":
        return make_mlp(MLPConfig((), config.n_aux, config.init), n_pixels, n_class)
    return make_mlp(config, n_pixels, n_class)
