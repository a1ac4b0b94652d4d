"""Random damage to files that the package loads: ``python tests/fuzz_loaders.py --seconds 60 --seed 0``.

A loader takes what it is given or raises an error of a short list; whatever the bytes are, nothing is unpickled and
memory stays bounded. What a loader takes must be sound: it can be shown, and saved and loaded again.

Damage is of several kinds: of bytes; of the values in a JSON document; of the members of an npz, which get the
checksums that fit them; of the numbers in a header, also within gzip.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
import rasterio
from numpy.typing import NDArray

TESTS = Path(__file__).parent / "python"
sys.path[:0] = [str(TESTS), str(TESTS / "contract"), str(TESTS / "consign")]

import conformask as cm  # noqa: E402
from conformask._files import geotiff, maps, nifti  # noqa: E402
from conformask.datasets import load_predictions  # noqa: E402
from conformask.integrations.nnunet import Cases  # noqa: E402
from estimators import ESTIMATORS  # noqa: E402
from nnunet_files import write_cases  # noqa: E402
from problems import wide  # noqa: E402

# What a loader may say. A parameter of another type is a TypeError where objects are made, never where files are read.
ALLOWED = (ValueError, FileNotFoundError)
MEMORY = 2 << 30  # bytes beyond those in use when the first file is loaded

JUNK: list[Any] = [
    *(None, True, "", "x", [], {}, [[]], [None], {"a": 1}, 0, -1, 1, 2, 1.5, -0.5),
    *(1e308, -1e308, 5e-324, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**40, float("nan"), float("inf")),
    *("nan", "inf", "1/0", "1/3", "9" * 5000, "\x00", "../x", "/etc/passwd", "a" * 10_000, "é\u2028"),
]
DEEP = "lists within lists"  # what is replaced by them in the text
LARGEST = 2**32 - 2  # what a directory says of a member in 32 bits
NUMBERS = [0, 1, 2, 3, -1, 255, 2**31, 2**32, 2**40, 2**62, 2**63, 2**64]


class Subject(NamedTuple):
    """A file that was saved, and who loads it."""

    name: str
    content: dict[str, bytes]  # by the names of files; the first is the one that is loaded
    load: Callable[[Path], Any]
    again: Callable[[Any, Path], Any] | None  # saves what was loaded, and loads that
    allowed: tuple[type[Exception], ...] = ALLOWED


def subjects(folder: Path) -> Iterator[Subject]:
    """A file of each kind."""

    def of_files(name: str, load: Callable[[Path], Any], again: Any, first: str) -> Subject:
        files = sorted(folder.iterdir(), key=lambda file: file.name != first)
        content = {file.name: file.read_bytes() for file in files}
        for file in files:
            file.unlink()
        return Subject(name, content, load, again)

    def again(loaded: Any, path: Path) -> Any:
        try:
            loaded.save(path)
        except ValueError:  # not without profiles, say
            return loaded
        return type(loaded).load(path)

    for case in ESTIMATORS:
        if not hasattr(case.kind, "load"):
            continue
        case.fitted().save(folder / "one.json")
        yield of_files(case.kind.__name__, case.kind.load, again, "one.json")
    problem = wide()
    for profile in ("exact", "binned"):
        calibrator = cm.ConformalRiskCalibrator(profile=profile).fit(problem.X[:12], problem.y[:12])
        calibrator.profiles_.save(folder / "one.npz")
        yield of_files(type(calibrator.profiles_).__name__, type(calibrator.profiles_).load, again, "one.npz")
    np.savez_compressed(folder / "one.npz", probs=problem.X[:2], labels=problem.y[:2], group=np.arange(2))
    yield of_files("predictions", load_predictions, None, "one.npz")
    yield from pictures_and_volumes(folder, problem.X[0], problem.y[0], of_files)
    np.save(folder / "probs.npy", problem.X[:2])
    np.save(folder / "labels.npy", problem.y[:2])
    yield of_files(
        "arrays", lambda path: load_predictions([path, path.with_name("labels.npy")]), None, "probs.npy"
    )


def pictures_and_volumes(
    folder: Path, scores: NDArray[Any], labels: NDArray[Any], of_files: Callable[..., Subject]
) -> Iterator[Subject]:
    """A file of each kind that other tools write, and a folder of nnU-Net's."""

    def written_like(loaded: Any, path: Path) -> None:
        """What is made of a map lies where its file says."""
        writer, source = (
            (nifti, geotiff)[".tif" in path.name],
            path.with_name(path.name.removeprefix("again")),
        )
        shape = loaded.values.shape
        space = shape if len(shape) == 2 or writer is nifti else shape[1:]
        sizes = np.ones(space[-3:] if writer is nifti else (1, *space[-2:]), np.uint8)
        with suppress(ValueError):  # a header that holds no place
            writer.write_like(path.with_name(f"like{path.name}"), sizes, source)

    for suffix in (".nii", ".nii.gz"):
        affine = np.array([[-1.5, 0, 0, 20], [0, -1.25, 0, 7], [0, 0, 3, -40], [0, 0, 0, 1.0]])
        nibabel.save(
            nibabel.Nifti1Image(labels[:5, :4, None].T.astype(np.int16), affine), folder / f"one{suffix}"
        )
        yield of_files(f"labels{suffix}", maps.read_labels, written_like, f"one{suffix}")
        image = nibabel.Nifti1Image(scores[:, None, :5, :4].T, affine)
        nibabel.save(image, folder / f"one{suffix}")
        yield of_files(f"scores{suffix}", maps.read_scores, written_like, f"one{suffix}")
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(2, 0, 100, 0, -2, 900), "driver": "GTiff"}
    for name, values, more in (
        ("labels", labels[None, :9, :8].astype(np.uint8), {"nodata": 255}),
        ("scores", scores[:, :9, :8], {"compress": "deflate", "nodata": -1}),
        (
            "tiles",
            scores[:, :32, :32],
            {"compress": "lzw", "tiled": True, "blockxsize": 16, "blockysize": 16},
        ),
    ):
        count, height, width = values.shape
        size = {"count": count, "height": height, "width": width, "dtype": values.dtype.name}
        with rasterio.open(folder / "one.tif", "w", **place, **size, **more) as raster:
            raster.write(values)
        read = maps.read_labels if name == "labels" else maps.read_scores
        found = of_files(f"{name}.tif", read, written_like, "one.tif")
        # A raster may be as large as its header says, and hold nothing: numbers that are not there are 0.
        yield found._replace(allowed=(*ALLOWED, MemoryError))
    write_cases(folder, 1)
    for file in (folder / "predictions").iterdir():
        if file.suffix != ".gz":
            file.rename(folder / file.name)
    (folder / "labels" / "case_00.nii.gz").rename(folder / "case_00.nii.gz")
    for each in ("predictions", "labels"):
        for file in (folder / each).iterdir():
            file.unlink()
        (folder / each).rmdir()
    (folder / "plans.json").write_text(json.dumps({"image_reader_writer": "NibabelIOWithReorient"}))
    for first in ("case_00.npz", "case_00.nii.gz", "dataset.json", "plans.json"):
        content = {file.name: file.read_bytes() for file in folder.iterdir()}
        first_of_all = {first: content.pop(first), **content}
        # One file of the folder at a time.
        yield Subject(
            f"nnU-Net {first}", first_of_all, lambda path: list(Cases(path.parent, path.parent)), None
        )
    for file in folder.iterdir():
        file.unlink()


def damaged_bytes(content: bytes, rng: random.Random) -> bytes:
    """Bytes changed, taken out, put in, doubled or cut off."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 5, 20])):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice([1, 2, 4, 8, 64, 1000]))
        match rng.randrange(7):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at:end] = rng.randbytes(end - at)
            case 2:
                del data[at:end]
            case 3:
                data[at:at] = rng.randbytes(rng.choice([1, 4, 100]))
            case 4:
                data[at:at] = data[at:end]
            case 5:
                del data[at:]
            case _:
                number = rng.choice(NUMBERS) % 2**64
                data[at : at + 8] = number.to_bytes(8, rng.choice(["little", "big"]))
    return bytes(data)


def damaged_header(content: bytes, rng: random.Random) -> bytes:
    """Numbers of a header changed, within gzip or not; a little of the rest."""
    is_packed = content[:2] == b"\x1f\x8b"
    data = bytearray(gzip.decompress(content) if is_packed else content)
    for _ in range(rng.choice([1, 1, 2, 4])):
        size = rng.choice([1, 2, 2, 4, 8])
        at = rng.randrange(0, min(len(data), 540), rng.choice([1, 2]))
        number = rng.choice([*NUMBERS, 2**15 - 1, rng.randrange(2**16)]) % 2 ** (8 * size)
        several = number.to_bytes(size, rng.choice(["little", "little", "big"])) * rng.choice([1, 1, 1, 3])
        data[at : at + len(several)] = several
    if rng.random() < 0.2:
        data = bytearray(damaged_bytes(bytes(data), rng))
    return gzip.compress(bytes(data), 1) if is_packed else bytes(data)


def damaged_json(content: bytes, rng: random.Random) -> bytes:
    """Values of a document taken out, exchanged, or replaced by junk."""
    document = json.loads(content)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        places = list(_places(document))
        holder, key = rng.choice(places)
        match rng.randrange(6):
            case 0:
                del holder[key]
            case 1:
                other, place = rng.choice(places)
                holder[key] = json.loads(json.dumps(other[place]))
            case 2 if isinstance(holder, list):
                holder.extend(holder[:5] * rng.choice([1, 100]))
            case 3 if isinstance(holder[key], (int, float)) and not isinstance(holder[key], bool):
                holder[key] = rng.choice([-holder[key], holder[key] + 1, holder[key] * 1e6, str(holder[key])])
            case 4:
                holder[key] = DEEP if rng.random() < 0.1 else deepcopy(rng.choice(JUNK))
            case _:
                holder[key] = deepcopy(rng.choice(JUNK))
        if not document:
            break
    text = json.dumps(document)
    depth = rng.choice([10, 100_000])
    return text.replace(json.dumps(DEEP), "[" * depth + "]" * depth).encode()


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    keys = document if isinstance(document, dict) else range(len(document))
    for key in keys:
        yield document, key
        value = document[key]
        if isinstance(value, (dict, list)) and value and len(str(value)) < 100_000:
            yield from _places(value)


def damaged_archive(content: bytes, rng: random.Random) -> bytes:
    """Members of an archive damaged, renamed, left out or put in, with the checksums that fit them."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(members))
        name, data = members[at]
        match rng.randrange(7):
            case 0:
                members[at] = (name, damaged_bytes(data, rng))
            case 1:
                members[at] = (name, _with_array(data, rng))
            case 2:
                members[at] = (name, _with_header(data, rng))
            case 3 if len(members) > 1:
                del members[at]
            case 4:
                members.append((rng.choice([name, "x.npy", "kind.npy", "../x.npy"]), data))
            case 5:
                members[at] = (rng.choice(["x", name + "x", "kind.npy"]), data)
            case _:
                members[at] = (name, members[rng.randrange(len(members))][1])
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two members of one name
        kind = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
        with zipfile.ZipFile(out, "w", kind) as archive:
            for name, data in members:
                archive.writestr(name, data)
    data = bytearray(out.getvalue())
    if rng.random() < 0.1:
        # The directory lies about the size of a member, as its header may.
        entries = [at for at in range(len(data)) if data[at : at + 4] == b"PK\x01\x02"]
        at = rng.choice(entries) + 24
        data[at : at + 4] = rng.choice([LARGEST, 0, 1, 2**20]).to_bytes(4, "little")
    return bytes(data)


def _with_array(data: bytes, rng: random.Random) -> bytes:
    """A member whose numbers are changed, or which holds objects or others."""
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception:  # it is damaged already
        return data
    match rng.randrange(4):
        case 0 if array.size and array.dtype.kind in "iufb":
            array = array.copy()
            info = None if array.dtype.kind in "fb" else np.iinfo(array.dtype)
            junk = [0, 1, 2] + ([info.min, info.max] if info else [np.nan, np.inf, -1])
            array.flat[rng.randrange(array.size)] = rng.choice(junk)
        case 1:
            array = np.array([{"a": 1}, None], dtype=object)
        case 2:
            array = array[..., :0] if array.ndim else array[None]
        case 3 if array.dtype.kind in "biuf":
            array = array.astype(
                rng.choice([">f8", "f4", "i1", "u8", "c16", "U3", "S2", "?"]), casting="unsafe"
            )
        case _:
            array = array.ravel()
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def _with_header(data: bytes, rng: random.Random) -> bytes:
    """A member whose header promises another shape or type than it has."""
    numbers = [rng.choice(NUMBERS) for _ in range(rng.randrange(4))]
    header = rng.choice(
        [
            {"descr": rng.choice(["<f8", "<u8", "|O", "<f4", "|V0", "<U1000000"]), "fortran_order": False},
            {"descr": [("a", "<f8"), ("b", "|O")], "fortran_order": True},
            {"descr": "<f8"},
        ]
    )
    shape = tuple(numbers)
    if rng.random() < 0.2:
        header, shape = {"descr": "|u1", "fortran_order": False}, (LARGEST - 128,)
    text = repr({**header, "shape": shape}).encode()
    text = rng.choice([text, text, b"{" * 200, b"__import__('os').getcwd()", text[:-3]]) + b"\n"
    if shape == (LARGEST - 128,):
        text = text.strip().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data[128:]


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    ".json": damaged_json,
    ".npz": damaged_archive,
    **dict.fromkeys((".nii", ".nii.gz", ".tif"), damaged_header),
}


def attempt(subject: Subject, folder: Path, rng: random.Random) -> str:
    """Damages one of the files, loads, and says what came of it."""
    content = dict(subject.content)
    # Of a folder of nnU-Net's the first file alone: each is one of a subject.
    name = next(iter(content)) if subject.name.startswith("nnU-Net") else rng.choice(list(content))
    damage = damaged_bytes
    if rng.random() < 0.7:
        damage = next((each for ending, each in DAMAGES.items() if name.endswith(ending)), damaged_bytes)
    content[name] = damage(content[name], rng)
    if rng.random() < 0.01:
        content[name] = rng.choice([b"", b"PK\x05\x06" + bytes(18), b"\x80\x04N.", b"null", b"\xff\xfe"])
    for file, data in content.items():
        (folder / file).write_bytes(data)
    path = folder / next(iter(content))
    try:
        loaded = subject.load(path)
    except subject.allowed as error:
        if not str(error):
            raise AssertionError("an error that says nothing") from error
        return type(error).__name__
    repr(loaded)
    if subject.again is not None:
        subject.again(loaded, folder / f"again{path.name}")
    return "loaded"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="one attempt again, by its number")
    parser.add_argument("--of", default="", help="only those whose name holds this")
    parser.add_argument("--keep", type=Path, help="a folder for the files of the first finding")
    options = parser.parse_args()

    nibabel.imageglobals.logger.disabled = True  # which says of many numbers what it makes of them
    unpickled: list[str] = []
    sys.addaudithook(
        lambda event, args: unpickled.append(str(args)) if event == "pickle.find_class" else None
    )
    with tempfile.TemporaryDirectory() as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what damaged parameters mean
        known = [each for each in subjects(Path(made)) if options.of in each.name]
        in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY, in_use + MEMORY))
        unpickled.clear()
        found, counts, end = Counter[str](), Counter[str](), time.monotonic() + options.seconds
        number = options.only or 0
        while time.monotonic() < end and sum(found.values()) < 20:
            rng = random.Random(f"{options.seed} {number}")
            subject = known[number % len(known)]
            with tempfile.TemporaryDirectory() as folder:
                try:
                    counts[attempt(subject, Path(folder), rng)] += 1
                    if unpickled:
                        raise AssertionError(f"something was unpickled: {unpickled}")
                except Exception as error:  # whatever it is, it is a finding
                    unpickled.clear()
                    frame = traceback.extract_tb(error.__traceback__)[-1]
                    what = f"{subject.name}: {type(error).__name__} in {frame.name}: {str(error)[:200]}"
                    if not found[what]:
                        print(f"--only {number} --seed {options.seed}: {what}", file=sys.stderr)
                        traceback.print_exc()
                    if not found and options.keep:
                        options.keep.mkdir(exist_ok=True)
                        for file in Path(folder).iterdir():
                            (options.keep / file.name).write_bytes(file.read_bytes())
                    found[what] += 1
            number += 1
            if options.only is not None:
                break
    n_found = sum(found.values())
    print(f"loaders: {sum(counts.values()) + n_found} files, {dict(counts)}, {n_found} findings")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
