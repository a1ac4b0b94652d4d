"""Scenes are reproducible and rich, the classifier errs as a network would, files are checked."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from conformask.datasets import PixelClassifier, Scenes, load_predictions, make_scenes

SIZE = (48, 80)


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return make_scenes(48, size=SIZE, random_state=3)


@pytest.fixture(scope="module")
def model(scenes: Scenes) -> PixelClassifier:
    return PixelClassifier(n_pixels=20_000, random_state=0).fit(scenes.images[:24], scenes.labels[:24])


@pytest.fixture(scope="module")
def probs(model: PixelClassifier, scenes: Scenes) -> np.ndarray:
    return model.predict_proba(scenes.images[24:])


def errors(prediction: np.ndarray, labels: np.ndarray) -> np.ndarray:
    valid = labels != 255
    return ((prediction != labels) & valid).sum((1, 2)) / valid.sum((1, 2))


# --- make_scenes ----------------------------------------------------------------------------


def test_scenes_have_the_promised_shapes_and_values(scenes: Scenes) -> None:
    assert scenes.images.shape == (48, *SIZE, 3)
    assert scenes.images.dtype == np.uint8
    assert scenes.labels.shape == (48, *SIZE)
    assert scenes.labels.dtype == np.uint8
    assert scenes.palette.shape == (len(scenes.class_names), 3)
    assert set(np.unique(scenes.labels)) == {*range(len(scenes.class_names)), 255}


def test_scenes_print_briefly(scenes: Scenes) -> None:
    assert repr(scenes) == str(scenes) == "Scenes(48 images of 48 x 80, 8 classes)"


def test_one_seed_draws_the_same_scenes_however_many() -> None:
    many, few = (make_scenes(n, size=(24, 40), random_state=5) for n in (4, 2))
    np.testing.assert_array_equal(many.images[:2], few.images)
    np.testing.assert_array_equal(many.labels[:2], few.labels)
    assert (many.images[0] != many.images[1]).mean() > 0.5


def test_random_state_follows_numpys_conventions() -> None:
    def draw(random_state: object) -> np.ndarray:
        return make_scenes(1, size=(24, 40), random_state=random_state).images  # type: ignore[arg-type]

    generator = np.random.default_rng(5)
    first, second = draw(generator), draw(generator)
    np.testing.assert_array_equal(first, draw(5))
    assert (first != second).mean() > 0.5, "a generator moves on"
    assert (first != draw(6)).mean() > 0.5
    assert (draw(None) != draw(None)).mean() > 0.5
    np.testing.assert_array_equal(draw(np.random.RandomState(1)), draw(np.random.RandomState(1)))


def test_void_is_present_and_rare_in_every_scene(scenes: Scenes) -> None:
    void = (scenes.labels == 255).mean((1, 2))
    assert void.min() > 0.01
    assert void.max() < 0.3


def test_the_sky_is_above_the_road(scenes: Scenes) -> None:
    sky, road = (scenes.class_names.index(name) for name in ("sky", "road"))
    rows = np.arange(SIZE[0])[:, None]
    for labels in scenes.labels:
        if (labels == sky).any():
            assert np.broadcast_to(rows, SIZE)[labels == sky].max() < rows[(labels == road).any(1)].mean()


def test_brightness_and_contrast_vary(scenes: Scenes) -> None:
    brightness = scenes.images.mean((1, 2, 3))
    contrast = scenes.images.std((1, 2, 3))
    assert brightness.max() > 1.8 * brightness.min()
    assert contrast.max() > 1.5 * contrast.min()


@pytest.mark.parametrize(("arguments", "name"), [({"n_images": 0}, "n_images"), ({"size": (8, 40)}, "size")])
def test_make_scenes_refuses(arguments: dict, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        make_scenes(**{"n_images": 1, **arguments})


# --- PixelClassifier ------------------------------------------------------------------------


def test_probabilities_are_probabilities(probs: np.ndarray) -> None:
    assert probs.shape == (24, 8, *SIZE)
    assert probs.dtype == np.float32
    assert probs.min() >= 0
    np.testing.assert_allclose(probs.sum(1, dtype=np.float64), 1, atol=1e-6)


def test_the_classifier_errs_but_knows_its_trade(probs: np.ndarray, scenes: Scenes) -> None:
    labels = scenes.labels[24:]
    wrong = errors(probs.argmax(1), labels)
    majority = np.bincount(scenes.labels[:24][scenes.labels[:24] != 255]).argmax()
    assert 0.06 < wrong.mean() < 0.2
    assert wrong.mean() < 0.3 * errors(np.full_like(labels, majority), labels).mean()


def test_some_scenes_are_much_harder(probs: np.ndarray, scenes: Scenes) -> None:
    wrong = errors(probs.argmax(1), scenes.labels[24:])
    assert wrong.max() > 2 * wrong.min()


def test_errors_gather_where_classes_meet(probs: np.ndarray, scenes: Scenes) -> None:
    labels = scenes.labels[24:].astype(int)
    edge = np.zeros(labels.shape, bool)
    edge[:, :, 1:] = np.diff(labels, axis=2) != 0
    wrong, valid = probs.argmax(1) != labels, labels != 255
    assert wrong[edge & valid].mean() > 2 * wrong[~edge & valid].mean()


def test_fitting_is_deterministic(scenes: Scenes) -> None:
    def fit(seed: int) -> np.ndarray:
        small = PixelClassifier(n_pixels=1000, max_iter=2, random_state=seed)
        return small.fit(scenes.images[:4], scenes.labels[:4]).predict_proba(scenes.images[:1])

    np.testing.assert_array_equal(fit(0), fit(0))
    assert (fit(0) != fit(1)).any()


def test_void_pixels_teach_nothing(scenes: Scenes) -> None:
    images, labels = scenes.images[:4].copy(), np.full((4, *SIZE), 255, np.uint8)
    labels[:, :, :20], labels[:, :, 20:40] = 0, 2
    small = PixelClassifier(n_pixels=1000, max_iter=2, random_state=0).fit(images, labels)
    assert list(small.model_.classes_) == [0, 2]
    probs = small.predict_proba(images)
    assert probs.shape[1] == small.n_classes_ == 3
    assert not probs[:, 1].any(), "a class that was never seen has probability 0"
    assert probs[:, 2].any()


def test_predict_is_the_argmax(model: PixelClassifier, probs: np.ndarray, scenes: Scenes) -> None:
    predicted = model.predict(scenes.images[24:26])
    assert predicted.dtype == np.uint8
    np.testing.assert_array_equal(predicted, probs[:2].argmax(1))


def test_the_classifier_keeps_scikit_learns_contract(model: PixelClassifier, scenes: Scenes) -> None:
    fresh = clone(model)
    assert fresh.get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        fresh.predict_proba(scenes.images)


def test_the_classifier_refuses(scenes: Scenes) -> None:
    images, labels = scenes.images[:1], scenes.labels[:1]
    with pytest.raises(ValueError, match="images must be uint8"):
        PixelClassifier().fit(images / 255, labels)
    with pytest.raises(ValueError, match="labels must have shape"):
        PixelClassifier().fit(images, labels[:, 1:])
    with pytest.raises(ValueError, match="ignore_index=255"):
        PixelClassifier().fit(images, np.full_like(labels, 255))


# --- load_predictions -----------------------------------------------------------------------

PROBS = np.full((3, 2, 4, 5), 0.5, np.float16)
LABELS = np.zeros((3, 4, 5), np.uint8)


def test_predictions_come_back_as_stored(tmp_path: Path) -> None:
    group = np.array([0, 0, 1], np.int16)
    np.savez_compressed(tmp_path / "predictions.npz", probs=PROBS, labels=LABELS, group=group, names=["a"])
    np.savez(tmp_path / "images.npz", images=LABELS + 7)
    found = load_predictions(tmp_path)
    assert found.probs.dtype == np.float16
    np.testing.assert_array_equal(found.probs, PROBS)
    np.testing.assert_array_equal(found.labels, LABELS)
    np.testing.assert_array_equal(found.group, group)
    np.testing.assert_array_equal(found.images, LABELS + 7)


def test_images_and_groups_are_optional(tmp_path: Path) -> None:
    np.savez(tmp_path / "predictions.npz", probs=PROBS, labels=LABELS)
    found = load_predictions(str(tmp_path))
    assert found.images is None
    assert found.group is None


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_predictions(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"predictions\.npz"):
        load_predictions(tmp_path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"probs": PROBS}, "no array 'labels'"),
        ({"probs": PROBS[0], "labels": LABELS}, r"probs must be floating \(n, K, H, W\)"),
        ({"probs": PROBS.astype(int), "labels": LABELS}, "probs must be floating"),
        ({"probs": PROBS, "labels": LABELS[1:]}, "labels must be integer"),
        ({"probs": PROBS, "labels": LABELS / 1}, "labels must be integer"),
        ({"probs": PROBS, "labels": LABELS, "group": LABELS}, "group must be integer"),
        ({"probs": PROBS, "labels": LABELS.astype(object)}, "without pickles"),
    ],
)
def test_unfit_arrays_are_named(tmp_path: Path, arrays: dict, message: str) -> None:
    np.savez(tmp_path / "predictions.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_predictions(tmp_path)


def test_arrays_of_other_names_are_told_apart_by_rank_and_dtype(tmp_path: Path) -> None:
    more = {
        "names": np.array(["a", None, 3], object),
        "ids": np.array(["a", "b", "c"]),
        "scale": np.float32(2),
    }
    np.savez(tmp_path / "mine.npz", softmax=PROBS, gt=LABELS + 1, **more)
    np.save(tmp_path / "softmax.npy", PROBS)
    np.save(tmp_path / "gt.npy", LABELS + 1)
    pair = [tmp_path / "gt.npy", tmp_path / "softmax.npy"]
    for paths in (tmp_path / "mine.npz", [str(tmp_path / "mine.npz")], pair, pair[::-1]):
        found = load_predictions(paths)
        assert found.probs.dtype == np.float16
        np.testing.assert_array_equal(found.probs, PROBS)
        np.testing.assert_array_equal(found.labels, LABELS + 1)
        assert (found.images, found.group) == (None, None)
    np.savez(tmp_path / "grey.npz", softmax=PROBS, gt=LABELS, images=LABELS + 7)
    np.testing.assert_array_equal(load_predictions(tmp_path / "grey.npz").images, LABELS + 7)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": PROBS, "b": PROBS, "gt": LABELS}, r"more than one .* name one of \['a', 'b'\] probs"),
        ({"a": PROBS, "gt": LABELS, "pred": LABELS}, r"name one of \['gt', 'pred'\] labels"),
        ({"a": PROBS, "gt": LABELS[1:]}, r"no array 'labels', integer \(3, 4, 5\); .* gt uint8 \(2, 4, 5\)"),
        ({"gt": LABELS}, r"no array 'probs', floating \(n, K, H, W\)"),
    ],
)
def test_arrays_that_could_be_several_are_named(tmp_path: Path, arrays: dict, message: str) -> None:
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_predictions(tmp_path / "mine.npz")


def test_damaged_npy_files_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "softmax.npy", PROBS)
    (tmp_path / "gt.npy").write_bytes(b"no array")
    with pytest.raises(ValueError, match=r"gt\.npy is not a readable NumPy file"):
        load_predictions([tmp_path / "softmax.npy", tmp_path / "gt.npy"])


def test_images_must_fit_the_predictions(tmp_path: Path) -> None:
    np.savez(tmp_path / "predictions.npz", probs=PROBS, labels=LABELS)
    np.savez(tmp_path / "images.npz", images=LABELS[:, 1:])
    with pytest.raises(ValueError, match="images must be uint8"):
        load_predictions(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "predictions.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"predictions\.npz is not a readable NumPy archive"):
        load_predictions(tmp_path)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize(
    ("probs", "message"),
    [
        (
            npy(PROBS).replace(b"'shape': (3, 2, 4, 5)", b"'shape': (3, 2, 4, (5 "),
            "EOF in multi-line statement",
        ),
        (npy(PROBS).replace(b"(3, 2, 4, 5), }  ", b"(3, 2, 4, 1<<40)}"), "malformed|parse|literal"),
        (npy(PROBS).replace(b"(3, 2, 4, 5), }     ", b"(3, 2, 4, 5555555), }"), "is more than its"),
        (b"no array at all", "magic string"),
    ],
    ids=["cut off", "no shape", "longer than it is", "no array"],
)
def test_damaged_members_are_named(tmp_path: Path, probs: bytes, message: str) -> None:
    path = archive(tmp_path / "mine.npz", probs=probs, labels=npy(LABELS))
    with pytest.raises(ValueError, match=rf"mine\.npz is not a readable NumPy archive.*({message})"):
        load_predictions(path)


def test_headers_of_npy_files_that_are_damaged(tmp_path: Path) -> None:
    (tmp_path / "probs.npy").write_bytes(npy(PROBS).replace(b"(3, 2, 4, 5)", b"(3, 2, 4, (5"))
    np.save(tmp_path / "labels.npy", LABELS)
    with pytest.raises(ValueError, match=r"probs\.npy is not a readable NumPy file"):
        load_predictions([tmp_path / "probs.npy", tmp_path / "labels.npy"])


def test_archives_that_are_called_npy(tmp_path: Path) -> None:
    archive(tmp_path / "probs.npy", probs=npy(PROBS))
    np.save(tmp_path / "labels.npy", LABELS)
    with pytest.raises(ValueError, match=r"probs\.npy is not a readable NumPy file"):
        load_predictions([tmp_path / "probs.npy", tmp_path / "labels.npy"])


def test_members_that_are_no_arrays_are_passed_over(tmp_path: Path) -> None:
    path = archive(tmp_path / "mine.npz", softmax=npy(PROBS), truth=npy(LABELS))
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("README.txt", "of a model")
    assert load_predictions(path).probs.shape == PROBS.shape
