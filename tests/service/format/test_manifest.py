import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.errors import InvalidVersion
from service.format.versions import publish, read_manifest, stage, verify_files, version_folders
from tests.damage import change_manifest
from tests.disk import followed
from tests.toy import publish_toy
from tests.toy_table import publish_table


@pytest.fixture
def version(tmp_path: Path) -> Path:
    return publish_toy(tmp_path)


def test_a_published_version_verifies_and_says_what_it_offers(version: Path) -> None:
    manifest = read_manifest(version)
    verify_files(version, manifest)
    assert manifest.operations == (
        "sample",
        "interpolate",
        "decode",
        "encode",
        "reconstruct",
        "score",
        "read",
    )


def test_publishing_again_takes_the_next_number_and_leaves_no_partial_folder(version: Path) -> None:
    second = publish_toy(version.parent.parent)
    assert [folder.name for folder in version_folders(version.parent)] == ["1", "2"]
    assert read_manifest(second).version == 2
    assert not [path for path in version.parent.iterdir() if path.name.startswith(".")]


def test_a_version_is_on_the_disk_before_it_has_its_number(tmp_path: Path) -> None:
    with followed() as disk:
        version = publish_toy(tmp_path)
    assert disk.before("1") == {"1", *(path.name for path in version.iterdir())}
    assert disk.after("1") == {"toy-vae"}


def test_concurrent_publishers_lose_no_version(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        folders = list(threads.map(lambda _: publish_toy(tmp_path), range(8)))
    assert sorted(int(folder.name) for folder in folders) == list(range(1, 9))
    for folder in folders:
        verify_files(folder, read_manifest(folder))


def test_a_staged_folder_with_a_wrong_file_is_not_published(version: Path) -> None:
    manifest = read_manifest(version)
    staging = stage(version.parent.parent, version.parent.name)
    for spec in manifest.files:
        shutil.copy(version / spec.file, staging / spec.file)
    (staging / "decode.onnx").write_bytes(b"not what was promised")
    with pytest.raises(InvalidVersion, match=r"decode\.onnx"):
        publish(staging, manifest)
    assert [folder.name for folder in version_folders(version.parent)] == ["1"]


@pytest.mark.parametrize("damage", ["truncate", "remove", "symlink"])
def test_a_damaged_file_is_named(version: Path, damage: str) -> None:
    manifest = read_manifest(version)
    path = version / "calibration.npz"
    original = path.read_bytes()
    path.unlink()
    if damage == "truncate":
        path.write_bytes(original[:-1])
    elif damage == "symlink":
        elsewhere = version.parent / "elsewhere.npz"
        elsewhere.write_bytes(original)
        os.symlink(elsewhere, path)
    with pytest.raises(InvalidVersion, match=r"calibration\.npz"):
        verify_files(version, manifest)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("latent_size", 0),
        ("family", "diffusion"),
        ("surprise", 1),
        ("noise", "other"),
        ("self_test", {"file": "../../etc/passwd", "sha256": "0" * 64}),
        ("name", "../escape"),
        ("support", "complex"),
        ("prior", {"kind": "mixture", "file": "prior.npz", "sha256": "0" * 64, "components": 0}),
        ("prior", "uniform"),
        ("value_range", None),
        ("value_range", [0, 255]),
        ("columns", [{"name": "height"}]),
    ],
)
def test_a_manifest_that_breaks_the_contract_is_refused(version: Path, key: str, value: object) -> None:
    change_manifest(version, lambda document: document.update({key: value}))
    with pytest.raises(InvalidVersion, match=key):
        read_manifest(version)


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ([{"name": "height"}], "columns have 1 features"),
        ([{"name": "height"}, {"name": "colour", "categories": ["red", "green"]}], "columns have 3 features"),
        ([{"name": "height"}] * 4, "two have the same name"),
        ([{"name": "colour", "categories": ["red", "red", "red", "red"]}], "a category twice"),
        ([{"name": ""}] * 4, "columns"),
        ([{"name": "height", "unseen": "other"}], "holds numbers"),
        ([{"name": "colour", "categories": ["a", "b", "c", "d"], "unseen": "other"}], "no category `other`"),
        ([{"name": "height", "decimals": 0}], "no value_range"),
        ([{"name": "height", "decimals": 0, "value_range": [0, 1e30]}], "up to 2\\^53"),
        ([{"name": "height", "value_range": [2, 1]}], "from a smaller to a larger"),
        ([{"name": "colour", "categories": ["a"], "value_range": [0, 1]}], "holds categories"),
        (
            [{"name": "colour", "categories": ["1", "01"], "decimals": 0}],
            "neither of numbers nor truth values",
        ),
    ],
)
def test_columns_that_do_not_describe_the_item_are_refused(
    tmp_path: Path, columns: list[object], complaint: str
) -> None:
    version = publish_table(tmp_path)
    change_manifest(version, lambda document: document.update(columns=columns))
    with pytest.raises(InvalidVersion, match=complaint):
        read_manifest(version)


def test_the_prior_is_one_of_the_files_a_version_is_verified_by(tmp_path: Path) -> None:
    version = publish_toy(tmp_path, mixture=True)
    manifest = read_manifest(version)
    verify_files(version, manifest)
    (version / "prior.npz").write_bytes(b"not what was promised")
    with pytest.raises(InvalidVersion, match=r"prior\.npz"):
        verify_files(version, manifest)


def test_a_version_copied_under_another_number_is_refused(version: Path) -> None:
    copy = shutil.copytree(version, version.parent / "7")
    with pytest.raises(InvalidVersion, match="describes toy-vae/1"):
        read_manifest(copy)


def test_only_plain_numbers_are_versions(version: Path) -> None:
    for name in ("01", "latest", ".partial-1", "²", "-3"):
        (version.parent / name).mkdir()
    assert [folder.name for folder in version_folders(version.parent)] == ["1"]
