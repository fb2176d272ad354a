"""The model card of a version that others trained."""

from __future__ import annotations

from service.format.manifest import Manifest
from training.export.card_parts import choice_section, figures_table, model_sentence, pictures_section
from training.metrics.names import MetricName

_VALUES = {
    "binary": "0 or 1",
    "eight_bit": "256 levels in [0, 1]",
    "unit_interval": "in [0, 1]",
    "real": "any number",
}


def own_card(manifest: Manifest, items: str) -> str:
    """Return the card of a version as Markdown; `items` says what scores were calibrated on."""
    choosing = {name for name in manifest.metrics if MetricName.parse(name).group == "validation_auroc"}
    others = {name: metric for name, metric in manifest.metrics.items() if name not in choosing}
    figures = f"\n## Figures\n\n{figures_table(others)}\n" if others else ""
    origin = manifest.provenance.origin or {}
    said = "\n".join(f"| {name.replace('_', ' ')} | {_cell(value)} |" for name, value in origin.items())
    exact = (
        "Results of a row were equal bit for bit in every batch and place."
        if manifest.bit_equal_rows
        else "The last digits of a row's results depend on its batch, by at most "
        f"{manifest.largest_row_error:.1e} (1 + |value|)."
    )
    return f"""# {manifest.name}

{manifest.description}

{pictures_section(manifest)}## Model

{model_sentence(manifest)}
Items have the shape {list(manifest.item_shape)}, each value {_VALUES[manifest.support]}. It was trained
elsewhere, and published as it came:

| | |
|---|---|
{said}

Its graphs agree with its own networks within {max(p.largest_error for p in manifest.parity.values()):.1e}
(1 + |value|), at batches of {", ".join(map(str, next(iter(manifest.parity.values())).batches))} rows. {exact}

## Scores

{items}
{choice_section(manifest, choosing)}{figures}"""


def _cell(value: object) -> str:
    parts = [f"{name} {each}" for name, each in value.items()] if isinstance(value, dict) else [str(value)]
    return ", ".join(parts).replace("|", "\\|")
