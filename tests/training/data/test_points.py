import numpy as np
import pytest

from training.data import SPLITS, load_dataset
from training.data.options import DataOptions
from training.data.points import MODES


@pytest.mark.parametrize(
    ("name", "count", "nearest"), [("ring", 8, 2 * np.sin(np.pi / 8)), ("grid", 25, 2.0)]
)
def test_every_mode_is_a_place_of_its_own(name: str, count: int, nearest: float) -> None:
    centres = MODES[name]().centres.astype(float)
    distances = np.linalg.norm(centres[:, None] - centres, axis=-1) + 1e9 * np.eye(len(centres))
    assert len(centres) == count
    assert distances.min(axis=1) == pytest.approx(nearest, abs=1e-6)


@pytest.mark.parametrize("name", ["ring", "grid"])
def test_points_lie_around_the_mode_that_their_label_names(name: str) -> None:
    dataset, modes = load_dataset(DataOptions.model_validate({"dataset": name})), MODES[name]()
    for split in SPLITS:
        apart = dataset.items[split] - modes.centres[dataset.labels[split]]
        assert apart.mean(0) == pytest.approx([0, 0], abs=5 * modes.deviation / np.sqrt(len(apart)))
        assert apart.std(0) == pytest.approx([modes.deviation] * 2, rel=0.03)
        shares = np.bincount(dataset.labels[split]) / len(apart)
        assert shares == pytest.approx(np.full(len(shares), 1 / len(modes.centres)), rel=0.25)


def test_splits_share_no_point_and_equal_seeds_give_equal_ones() -> None:
    options = DataOptions.model_validate({"dataset": "ring"})
    first, again = load_dataset(options), load_dataset(options)
    other = load_dataset(options.model_copy(update={"split_seed": 1}))
    rows = [point.tobytes() for split in SPLITS for point in first.items[split]]
    assert len(set(rows)) == len(rows)
    assert first.fingerprint == again.fingerprint != other.fingerprint
