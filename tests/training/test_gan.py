import torch
from torch import nn

from training.gan import Gan


def test_generated_items_lie_in_the_unit_interval() -> None:
    gan = Gan(nn.Sequential(nn.Linear(2, 4), nn.Unflatten(1, (1, 2, 2))), nn.Flatten(), latent=2)
    items = gan.decode(100 * torch.randn(50, 2))
    assert ((items >= 0) & (items <= 1)).all()
