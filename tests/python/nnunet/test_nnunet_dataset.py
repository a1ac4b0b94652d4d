"""What dataset.json says of labels, and what it may not say."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from conformask.integrations.nnunet import Dataset


def dataset(labels: dict[str, Any], **others: Any) -> Dataset:
    return Dataset.from_document({"labels": labels, **others})


def test_classes_are_in_the_order_of_their_labels() -> None:
    found = dataset({"tumour": 2, "background": 0, "ignore": 3, "liver": 1}, file_ending=".nii")
    assert found.names == ("background", "liver", "tumour")
    assert found.labels == ((0,), (1,), (2,))
    assert (found.ignore_label, found.has_regions, found.file_ending) == (3, False, ".nii")
    assert found.known_labels == {0, 1, 2, 3}
    assert found.channel("tumour") == 2


def test_the_first_version_gives_names_by_label() -> None:
    found = dataset({"0": "background", "2": "tumour", "1": "liver"})
    assert found.names == ("background", "liver", "tumour")
    assert (found.ignore_label, found.file_ending) == (None, ".nii.gz")


def test_a_list_of_one_label_is_no_region() -> None:
    assert not dataset({"background": 0, "liver": [1]}).has_regions


def test_regions_are_in_the_order_of_the_file_without_the_background() -> None:
    labels = {"whole": [1, 2, 3], "background": 0, "core": [2, 3], "enhancing": 3, "ignore": 4}
    found = dataset(labels, regions_class_order=[1, 2, 3])
    assert found.has_regions
    assert found.names == ("whole", "core", "enhancing")
    assert found.labels == ((1, 2, 3), (2, 3), (3,))
    assert found.known_labels == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "it has no 'labels'"),
        ({"labels": {"ignore": 1}}, "'labels' name no class"),
        ({"labels": {"background": [0, 0]}, "regions_class_order": [1]}, "'labels' name no class"),
        ({"labels": {"background": 0, "liver": 2}}, r"without gaps, got [0, 2]"),
        ({"labels": {"background": 0, "liver": 1, "ignore": 3}}, "the highest + 1 = 2, got 3"),
        ({"labels": {"background": 0, "liver": 1, "ignore": [2, 3]}}, "must be one number, got [2, 3]"),
        ({"labels": {"background": 0, "liver": [1, 2]}}, "need 'regions_class_order'"),
        ({"labels": {"background": 0, "liver": "first"}}, "the label of 'liver' must be a whole number"),
        ({"labels": {"background": 0, "liver": 1.5}}, "the label of 'liver' must be a whole number"),
        ({"labels": {"background": 0, "liver": True}}, "the label of 'liver' must be a whole number"),
        ({"labels": {"background": 0, "liver": math.inf}}, "the label of 'liver' must be a whole number"),
        (
            {"labels": {"background": 0, "liver": [1, math.nan]}},
            "the label of 'liver' must be a whole number",
        ),
        (
            {"labels": {"background": 0, "liver": 1}, "file_ending": "/../x"},
            "'file_ending' must be how names",
        ),
        (
            {"labels": {"background": 0, "liver": 1}, "file_ending": "x" * 300},
            "'file_ending' must be how names",
        ),
        ({"labels": {"background": 0, "liver": 1}, "file_ending": None}, "'file_ending' must be how names"),
        ({"labels": {"background": 0, "liver": -1}}, "the label of 'liver' must be at least 0, got -1"),
    ],
)
def test_labels_that_nnunet_would_not_take(document: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=re.escape(f"{path}: ") + ".*" + re.escape(message)):
        Dataset.from_json(path)


@pytest.mark.parametrize("text", ["{", "[1]", '"labels"'])
def test_a_file_that_is_no_dataset(text: str, tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        Dataset.from_json(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere\.json"):
        Dataset.from_json(tmp_path / "nowhere.json")
    with pytest.raises(FileNotFoundError, match=r"no dataset\.json in .* or in the two folders above"):
        Dataset.of_predictions(tmp_path / "a" / "b" / "c")


def test_a_name_that_is_no_class() -> None:
    with pytest.raises(ValueError, match="no class 'kidney': background, liver"):
        dataset({"background": 0, "liver": 1}).channel("kidney")


def test_the_model_has_it_two_folders_above_its_validation(tmp_path: Path) -> None:
    folder = tmp_path / "model" / "fold_0" / "validation"
    folder.mkdir(parents=True)
    (tmp_path / "model" / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1}}))
    assert Dataset.of_predictions(folder).names == ("background", "liver")
