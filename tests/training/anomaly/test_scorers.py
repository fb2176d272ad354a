"""Laws of the scorers of a version, which run its graphs."""

from collections.abc import Sequence

import numpy as np
import pytest

from training.anomaly.calibrate import ScoreError, version_scorer
from training.options import CalibrationOptions

ITEMS = np.arange(300, dtype=np.float32)[:, None]


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
def test_items_without_finite_scores_are_told_by_their_number_and_their_values(strange: float) -> None:
    def statistics(inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        return (np.where(inputs[0] >= 250, strange, inputs[0]).astype(np.float32),)

    scorer = version_scorer({"statistics": statistics}, CalibrationOptions(), 1, True, ["residual"])
    np.testing.assert_array_equal(scorer.surprises(ITEMS[:250])["residual"], ITEMS[:250, 0])
    with pytest.raises(
        ScoreError, match=r"residual is NaN or infinite for 50 of 300 items.* from 250 to 250;"
    ):
        scorer.surprises(ITEMS)
