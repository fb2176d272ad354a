"""The words of a model card on the figures that it shows."""

from service.format.specs import ScoreDefaults
from service.format.statistics import Statistic
from tests.published import manifest_of
from training.export.card_parts import choice_section


def section(statistic: Statistic) -> str:
    manifest = manifest_of("fashion-vae")
    defaults = ScoreDefaults(statistic=statistic, alpha=0.01)
    chosen = {name for name in manifest.metrics if name.startswith("validation_auroc_")}
    return choice_section(manifest.model_copy(update={"defaults": defaults}), chosen)


def test_a_card_says_that_figures_chose_a_statistic_only_where_they_did() -> None:
    for statistic in ("path", "elbo"):
        assert f"Scores are by `{statistic}`" in section(statistic)
        assert "It was chosen by these figures" in section(statistic)
    assert "Scores are by `kernel_density`" in section("kernel_density")
    assert "as those of every table that has it" in section("kernel_density")
    assert "chosen" not in section("kernel_density")
