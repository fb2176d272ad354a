import json
import math
import re
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from typer.testing import CliRunner

from service.errors import InvalidVersion
from service.format.manifest import Manifest
from service.format.specs import MixturePriorSpec
from service.format.versions import read_manifest
from service.numerics.calibration import Calibration, bounds_from_terms, surprise
from service.numerics.noise import scoring_noise
from tests.training.publishing import noise_free_recipe, publish_recipe
from tests.training.tiny import digits, tiny_recipe, write_recipe
from training.__main__ import app
from training.anomaly.calibrate import StatisticScorer, version_scorer
from training.anomaly.choose import split_validation
from training.anomaly.statistics import fit_statistics, surprise_map
from training.export.rules import ALLOWED_OPERATORS, GraphError, check_graph
from training.export.sessions import PARITY_TOLERANCE, open_graph, run_graph, verify_version
from training.loop.runs import restore_published
from training.loop.vae import VaeTask
from training.models.vae import score_terms, with_fixed_prior
from training.options import EncoderOptions
from training.recipe import parse_recipe

pytestmark = pytest.mark.timeout(300)  # a setup trains, and exports six graphs

GRAPHS = {
    "vae": {"encode", "decode", "draw", "score", "statistics", "map"},
    "vamp": {"encode", "decode", "draw", "score", "statistics", "map"},
    "gan": {"encode", "decode", "map", "statistics", "discriminate", "generate_scored"},
    "wgan": {"decode"},
}


VAE, VAMP, GAN = (pytest.param(kind, marks=pytest.mark.exports) for kind in ("vae", "vamp", "gan"))


@pytest.fixture(scope="module", params=[VAE, VAMP, GAN, "wgan"])
def version(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "vae":
        published: Path = request.getfixturevalue("noise_free_version")
        return published
    tiny = tiny_recipe("gan" if "gan" in request.param else "vae")
    if request.param == "gan":
        encoder = EncoderOptions(feature_weight=0.5, loop=tiny.loop)
        assert tiny.gan is not None
        mixture = tiny.gan.model_copy(update={"prior": "mixture", "prior_components": 9})
        tiny = tiny.model_copy(update={"encoder": encoder, "gan": mixture})
    if tiny.gan is not None and request.param == "wgan":
        wasserstein = tiny.gan.model_copy(update={"objective": "wasserstein"})
        tiny = tiny.model_copy(update={"gan": wasserstein})
    if tiny.vae is not None and request.param == "vamp":
        vae = tiny.vae.model_copy(update={"prior": "vamp", "prior_components": 9})
        auto = tiny.calibration.model_copy(update={"statistic": "auto", "draws": 5})
        tiny = tiny.model_copy(update={"vae": vae, "calibration": auto})
    return publish_recipe(tmp_path_factory.mktemp(request.param), tiny)


@pytest.fixture(scope="module")
def manifest(version: Path) -> Manifest:
    return read_manifest(version)


@pytest.mark.exports
def test_a_publication_says_what_share_is_flagged_and_how_well_its_statistic_finds_outliers(
    tmp_path: Path,
) -> None:
    recipe, models = write_recipe(tmp_path / "recipe.toml", noise_free_recipe()), tmp_path / "models"
    arguments = ["run", recipe, "--quiet", "--runs", tmp_path / "runs", "--models", models]
    told = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False).output
    (version,) = models.glob("*/1")
    metrics = read_manifest(version).metrics
    found = {name for name in metrics if re.match("auroc_path_|flagged_(?!at_)", name)}
    assert len(found) > 2
    assert set(re.findall(r"^  (flagged_\w+|auroc_\w+) ", told, re.MULTILINE)) == found
    assert f"flagged_test {metrics['flagged_test'].value:.6g}" in told


def test_a_run_publishes_a_version_that_verifies(version: Path, manifest: Manifest) -> None:
    assert verify_version(version) == manifest
    assert {path.name for path in version.iterdir()} >= {"manifest.json", "README.md", "samples.png"}


def test_each_kind_of_model_has_its_graphs(request: pytest.FixtureRequest, manifest: Manifest) -> None:
    kind = request.node.callspec.params["version"]
    assert set(manifest.graphs) == GRAPHS[kind]


@pytest.mark.parametrize("version", ["wgan"], indirect=True)
def test_a_wasserstein_critic_is_named_and_not_published_as_a_density_ratio(manifest: Manifest) -> None:
    assert manifest.discriminator is not None
    assert (manifest.discriminator.objective, manifest.discriminator.logits) == ("wasserstein", None)
    assert manifest.discriminator.flaw is not None


@pytest.mark.parametrize("version", [GAN], indirect=True)
def test_what_a_gan_publishes_fits_together(version: Path, manifest: Manifest) -> None:
    def run(graph: str, *arrays: np.ndarray) -> list[np.ndarray]:
        spec = manifest.graphs[graph]  # type: ignore[index]
        session = onnxruntime.InferenceSession(version / spec.file, providers=["CPUExecutionProvider"])
        names = (tensor.name for tensor in spec.inputs)
        return list(session.run(None, dict(zip(names, arrays, strict=True))))

    latents = np.random.default_rng(0).standard_normal((5, manifest.latent_size)).astype(np.float32)
    samples, logit = run("generate_scored", latents)
    np.testing.assert_array_equal(samples, run("decode", latents)[0])
    np.testing.assert_allclose(logit, run("discriminate", samples)[0], atol=1e-5)
    (statistics,) = run("statistics", samples)
    (nearest,) = run("decode", *run("encode", samples))
    assert manifest.statistics == ("residual", "feature_distance", "f_anogan")
    np.testing.assert_allclose(
        statistics[:, 0], np.square(samples - nearest).mean((1, 2, 3)), rtol=1e-3, atol=1e-7
    )
    np.testing.assert_allclose(statistics[:, 2], statistics[:, 0] + 0.5 * statistics[:, 1], rtol=1e-5)
    assert manifest.defaults is not None
    assert (manifest.defaults.statistic, manifest.defaults.draws) == ("f_anogan", None)
    assert isinstance(manifest.prior, MixturePriorSpec)
    assert manifest.prior.components == 9


def test_every_graph_keeps_the_rules(version: Path, manifest: Manifest) -> None:
    for spec in manifest.graphs.values():
        model = onnx.load(version / spec.file)
        operators = {node.op_type for node in model.graph.node}
        assert operators <= ALLOWED_OPERATORS
        assert not any(operator.startswith("Random") for operator in operators)
        assert not operators & {"If", "Loop", "Scan"}
        assert not model.functions
        assert all(opset.version >= 18 for opset in model.opset_import)
        assert not model.graph.value_info
        assert all(not node.doc_string and not node.metadata_props for node in model.graph.node)


def test_no_published_file_names_a_folder_of_this_machine(version: Path) -> None:
    here = re.compile(rb"/(work|tmp|home|root|usr)/|site-packages|\.py\b")
    for path in version.iterdir():
        if path.name != "README.md":
            assert not here.search(path.read_bytes()), path.name


def test_axes_are_free_and_named_as_the_manifest_says(version: Path, manifest: Manifest) -> None:
    for spec in manifest.graphs.values():
        session = onnxruntime.InferenceSession(version / spec.file, providers=["CPUExecutionProvider"])
        for described, actual in (
            *zip(spec.inputs, session.get_inputs(), strict=True),
            *zip(spec.outputs, session.get_outputs(), strict=True),
        ):
            assert described.name == actual.name
            assert actual.type == "tensor(float)"
            assert len(described.shape) == len(actual.shape)
            for axis, length in zip(described.shape, actual.shape, strict=True):
                assert length == axis if isinstance(axis, int) else isinstance(length, str)


def test_parity_with_torch_is_within_the_tolerance(manifest: Manifest) -> None:
    for parity in manifest.parity.values():
        assert parity.batches == (1, 2, 7, 64)
        assert parity.largest_error <= parity.tolerance == PARITY_TOLERANCE


def test_the_manifest_says_where_the_version_came_from(manifest: Manifest) -> None:
    assert manifest.provenance.recipe["name"] == manifest.name
    assert re.fullmatch(r"[0-9a-f]{40}(-modified)?|unknown", manifest.provenance.commit)
    assert {"torch", "onnx", "onnxruntime", "numpy"} <= manifest.provenance.libraries.keys()
    assert all(
        metric.standard_error is None or metric.standard_error >= 0 for metric in manifest.metrics.values()
    )


@pytest.mark.parametrize("version", [VAE, VAMP], indirect=True)
def test_calibration_ranks_the_calibration_split_and_nothing_else(version: Path, manifest: Manifest) -> None:
    assert manifest.calibration is not None
    (run,) = (version.parents[2] / "runs").iterdir()
    recipe = parse_recipe(json.loads((run / "recipe.json").read_text()))
    dataset = digits(recipe)
    step, _ = restore_published(recipe, dataset, run)
    assert isinstance(step, VaeTask)
    how = manifest.calibration.statistics["elbo"]
    assert how.draws is not None
    assert how.seed is not None
    eps = torch.from_numpy(scoring_noise(how.seed, how.draws, manifest.latent_size))
    items = torch.from_numpy(dataset.items["calibration"])
    terms = score_terms(step.model, items, eps.expand(len(items), -1, -1))
    expected = surprise(bounds_from_terms(*(term.numpy() for term in terms)), "elbo")
    with np.load(version / manifest.calibration.file) as stored:
        surprises = stored["elbo"]
    assert how.n == len(surprises) == 128
    assert np.allclose(surprises, np.sort(expected), rtol=1e-4, atol=1e-3)
    assert Calibration(surprises).p_values(np.array([np.inf]))[0] == pytest.approx(1 / 129)


def published_scorer(version: Path, manifest: Manifest) -> StatisticScorer:
    """The statistics of a published VAE, by its own graphs."""
    recipe = parse_recipe(
        json.loads((next((version.parents[2] / "runs").iterdir()) / "recipe.json").read_text())
    )
    run = {
        name: partial(run_graph, open_graph(version, name), spec) for name, spec in manifest.graphs.items()
    }
    options, statistics = recipe.calibration, manifest.statistics
    return version_scorer(run, options, manifest.latent_size, manifest.analytic_kl, statistics)


@pytest.mark.parametrize("version", [VAE, VAMP], indirect=True)
def test_p_values_of_held_out_items_are_no_smaller_than_uniform_by_every_statistic(
    version: Path, manifest: Manifest
) -> None:
    assert manifest.calibration is not None
    assert list(manifest.calibration.statistics) == ["elbo", "importance_bound", "corrected", "path"]
    with np.load(version / manifest.calibration.file) as stored:
        calibrations = {name: Calibration(stored[name]) for name in manifest.calibration.statistics}
    items = digits(tiny_recipe()).items["test"]
    for name, surprises in published_scorer(version, manifest).surprises(items).items():
        p_values = calibrations[name].p_values(surprises)
        for alpha in (0.05, 0.1, 0.2, 0.5):
            error = math.sqrt(alpha * (1 - alpha) * (1 / len(items) + 1 / 128))
            assert (p_values <= alpha).mean() <= alpha + 4 * error, name


@pytest.mark.parametrize("version", [VAE, VAMP], indirect=True)
def test_bounds_alone_are_calibrated_with_draws(manifest: Manifest) -> None:
    assert manifest.calibration is not None
    for name, how in manifest.calibration.statistics.items():
        assert (how.draws is not None) == (how.seed is not None) == (name in ("elbo", "importance_bound"))


@pytest.mark.parametrize("version", [VAMP], indirect=True)
def test_a_chosen_statistic_stands_in_the_manifest_and_the_card_says_why(
    version: Path, manifest: Manifest
) -> None:
    means = {
        name: manifest.metrics[f"validation_auroc_{name}"].value
        for name in ("elbo", "importance_bound", "corrected")  # `path` is fitted on too few rows here
    }
    assert manifest.defaults is not None
    assert means[manifest.defaults.statistic] == max(means.values())
    card = (version / "README.md").read_text()
    assert f"Scores are by `{manifest.defaults.statistic}` unless a request says otherwise" in card
    assert card.count("| validation_auroc_path |") == 1


@pytest.mark.parametrize("version", [VAE, VAMP], indirect=True)
def test_published_statistics_and_maps_are_those_of_the_model(version: Path, manifest: Manifest) -> None:
    (run,) = (version.parents[2] / "runs").iterdir()
    recipe = parse_recipe(json.loads((run / "recipe.json").read_text()))
    dataset = digits(recipe)
    step, _ = restore_published(recipe, dataset, run)
    assert isinstance(step, VaeTask)
    vae, items = with_fixed_prior(step.model), torch.from_numpy(dataset.items["test"][:20])
    _, items_to_fit = split_validation(recipe.calibration, dataset.items["validation"])
    fitted = fit_statistics(vae, torch.from_numpy(items_to_fit))
    assert manifest.statistics == fitted.names == ("corrected", "path")
    with torch.no_grad():
        expected = {"statistics": fitted(vae, items), "map": surprise_map(vae, items)}
    for name, values in expected.items():
        (got,) = open_graph(version, name).run(None, {"inputs": items.numpy()})  # type: ignore[arg-type]
        np.testing.assert_allclose(got, values.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("version", ["wgan"], indirect=True)
def test_publishing_again_makes_the_next_version(version: Path) -> None:
    folder = version.parents[2]
    arguments = ["--runs", str(folder / "runs"), "--models", str(folder / "models")]
    result = CliRunner().invoke(
        app, ["export", str(folder / "recipe.toml"), *arguments], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert (
        read_manifest(version.parent / "2").graphs["decode"].sha256
        == read_manifest(version).graphs["decode"].sha256
    )


def test_a_changed_file_does_not_verify(version: Path, tmp_path: Path) -> None:
    copy = tmp_path / version.parent.name / version.name
    copy.mkdir(parents=True)
    for path in version.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "decode.onnx").write_bytes((version / "decode.onnx").read_bytes() + b"\0")
    with pytest.raises(InvalidVersion, match=r"decode\.onnx"):
        verify_version(copy)


def one_node_graph(operator: str, inputs: list[str]) -> onnx.ModelProto:
    node = helper.make_node(operator, inputs, ["y"])
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "g",
        [value("x", TensorProto.FLOAT, ["rows", 2])],
        [value("y", TensorProto.FLOAT, ["rows", 2])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def test_a_random_operator_is_refused() -> None:
    with pytest.raises(GraphError, match="RandomNormalLike, which is not in the list"):
        check_graph("decode", one_node_graph("RandomNormalLike", ["x"]))


def test_an_old_opset_is_refused() -> None:
    model = one_node_graph("Identity", ["x"])
    model.opset_import[0].version = 17
    with pytest.raises(GraphError, match="opset 18 or newer"):
        check_graph("decode", model)


def test_external_data_and_double_weights_are_refused() -> None:
    model = one_node_graph("Add", ["x", "w"])
    model.graph.initializer.append(helper.make_tensor("w", TensorProto.DOUBLE, [2], [1.0, 2.0]))
    with pytest.raises(GraphError, match="w as DOUBLE"):
        check_graph("decode", model)
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(GraphError, match="keeps w outside its file"):
        check_graph("decode", model)
