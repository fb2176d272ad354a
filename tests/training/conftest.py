import pytest
import torch

from training.data import Dataset, load_dataset
from training.data.options import DataOptions


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Let every test begin with the same random numbers, whichever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset(DataOptions(dataset="digits"))


@pytest.fixture(scope="session")
def garments() -> Dataset:
    return load_dataset(DataOptions(dataset="fashion-mnist"))


@pytest.fixture(scope="session")
def ring() -> Dataset:
    return load_dataset(DataOptions(dataset="ring"))
