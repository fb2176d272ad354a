"""The results on tables as a page and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from training.experiments.results import Mean, mean_of
from training.experiments.tables.detectors import DETECTORS, OWN

Results = Mapping[str, Mapping[str, Mapping[str, float]]]
"""AUROC by detector, table and seed."""
_MUCH = 0.02

_HEAD = """# Anomaly scores on real tables

How well scores find the anomalies of real tables, beside other detectors. AUROC is the probability that an
anomaly scores higher than a normal row. Of a table at most 10,000 rows are used. The detectors learn half of
the normal rows, without any anomaly; the other half and all anomalies are scored. No setting is made for a
single table.

`kernel_density` is the default score of a model whose recipe `pushforward init` wrote, and `elbo` the score
of its VAE ([both explained](explanation/statistics.md)). These two train on about 75 % of the rows to learn,
because p-values and figures need rows of their own; the other detectors learn all of them. kNN (the fifth
neighbour), LOF (20) and OCSVM are scikit-learn's, on standardised columns; IForest is scikit-learn's, ECOD
and VAE are PyOD's; all have their default settings otherwise.

`make tables TABLES=FOLDER` writes this page, from files `NAME.npz` with `X` and `y` such as [ADBench's
classical ones](https://github.com/Minqi824/ADBench) (Han et al. 2022, arXiv:2206.09426), which are not part
of this repository. Scores are computed with torch; published graphs agree with it, as their versions record.
"""


def markdown(results: Results, picture: str) -> str:
    """Return the page: a row for each table, the best in bold, and the means."""
    names = [name for name in DETECTORS if name in results]
    tables = sorted({table for found in results.values() for table in found})
    lines = [_HEAD, f"![AUROC by table]({picture})", "", f"| table | {' | '.join(names)} |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for table in tables:
        means = [mean_of(results[name].get(table, {}).values()) for name in names]
        best = max(f"{mean.value:.3f}" for mean in means if mean.value == mean.value)
        cells = [mean.text(3) for mean in means]
        bold = [f"**{cell}**" if cell.startswith(best) else cell for cell in cells]
        lines.append(f"| {table} | {' | '.join(bold)} |")
    overall = [over_tables(results[name]).text(4) for name in names]
    lines.append(f"| mean | {' | '.join(overall)} |")
    seeds = ", ".join(f"{name} {_seeds(results[name])}" for name in names)
    lines += ["", f"Errors are standard errors over seeds, which also draw the splits; seeds: {seeds}.", ""]
    lines += _losses(results, tables)
    return "\n".join(lines)


def over_tables(found: Mapping[str, Mapping[str, float]]) -> Mean:
    """Return the mean over tables, of those with every seed, with its standard error over the seeds."""
    most = _seeds(found)
    return mean_of(
        sum(each[str(seed)] for each in found.values()) / len(found)
        for seed in range(most)
        if all(str(seed) in each for each in found.values())
    )


def draw(results: Results, path: Path) -> None:
    """Draw every detector's AUROC on every table."""
    from matplotlib.figure import Figure

    tables = sorted({table for found in results.values() for table in found})
    figure = Figure(figsize=(9, 7), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(name for name in DETECTORS if name in results):
        points = [(mean_of(results[name][table].values()).value, row)
                  for row, table in enumerate(tables) if table in results[name]]  # fmt: skip
        first = name == next(iter(DETECTORS))
        axes.scatter(
            [area for area, _ in points], [row for _, row in points], label=name, zorder=3 if first else 2,
            s=60 if first else 22, marker="oDs^vP*X"[place], color=f"C{place}", alpha=1 if first else 0.65,
        )  # fmt: skip
    axes.set_yticks(range(len(tables)), tables)
    axes.invert_yaxis()
    axes.set_xlabel("AUROC")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", fontsize=8)
    figure.savefig(path, dpi=110)


def _seeds(found: Mapping[str, Mapping[str, float]]) -> int:
    return max(len(each) for each in found.values())


def _losses(results: Results, tables: list[str]) -> list[str]:
    """Say on which tables the default statistic loses most against the best of the others."""
    default = next(iter(DETECTORS))
    if default not in results:
        return []
    gaps = []
    for table in tables:
        others = {name: mean_of(found[table].values()).value
                  for name, found in results.items() if name not in OWN and table in found}  # fmt: skip
        if others and table in results[default]:
            best = max(others, key=lambda name: others[name])
            gaps.append((others[best] - mean_of(results[default][table].values()).value, table, best))
    gaps = sorted((each for each in gaps if each[0] > _MUCH), reverse=True)
    lost = ", ".join(f"{table} ({gap:.3f} behind {best})" for gap, table, best in gaps)
    return [f"Where another detector is more than {_MUCH} ahead of `{default}`: {lost}.", ""] if lost else []
