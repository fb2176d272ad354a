"""Parts of a report that need no trained run: traversals, activities and curves."""

import dataclasses

import numpy as np
import torch

from tests.training.models.linear_gaussian import linear_gaussian
from training.models.vae import reconstruct, score_terms
from training.report.curves import curves_section
from training.report.latents import SWEEP, measure_activity, traverse
from training.report.reading import Series


def test_a_traversal_moves_along_its_own_dimension_only() -> None:
    vae, items, _ = linear_gaussian()
    swept = traverse(vae, items[:1], 1, 0.7)
    columns = vae.decode(torch.eye(2, dtype=torch.float64))
    expected = reconstruct(vae, items[:1]) + 0.7 * SWEEP[:, None, None, None] * columns[1]
    torch.testing.assert_close(swept, expected)
    assert SWEEP[0] == -SWEEP[-1] == -3


def test_the_activity_orders_dimensions_and_its_parts_add_up_to_the_kl() -> None:
    vae, items, _ = linear_gaussian()
    activity = measure_activity(vae, items)
    assert activity.order == (0, 1)
    assert activity.active == 2
    assert activity.kl is not None
    terms = score_terms(vae, items, torch.zeros(len(items), 1, 2, dtype=torch.float64))
    torch.testing.assert_close(activity.kl.sum(), terms.kl.mean())


def test_early_outliers_do_not_squash_a_curve_and_are_counted() -> None:
    steps = np.arange(1.0, 101)
    calm = Series(steps, np.sin(steps))
    wild = dataclasses.replace(calm, values=np.where(steps < 4, -1e6, calm.values))
    assert curves_section({"elbo": calm}).plots[0].caption == ""
    caption = curves_section({"elbo": wild, "validation_elbo": calm}).plots[0].caption
    assert caption == "The axis spans the values after step 10; 3 earlier points lie outside it."


def test_a_quantity_nobody_foresaw_has_a_plot_of_its_own() -> None:
    series = Series(np.array([1.0]), np.array([2.5]))
    plots = curves_section({"new_term": series, "validation_new_term": series}).plots
    assert [plot.label for plot in plots] == ["new term"]
    assert "training 2.5; validation 2.5" in plots[0].alt
