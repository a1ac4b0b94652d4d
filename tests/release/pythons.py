"""Runs some of the tests against the wheel of dist/ in a fresh environment of each Python (``make test-pythons``).

``python tests/release/pythons.py python3.10 /opt/python3.13/bin/python`` says for each interpreter what came of it, and
which of the Pythons that pyproject.toml names were not there. It fails where a test fails, and where no interpreter is.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
TOOLS = ["pytest", "pytest-timeout", "hypothesis", "sybil", "psutil", "mapie", "h5py"]
EXTRAS = "dask,reproduction"  # whose modules the tests of the package's face import
# What may depend on the interpreter, NumPy, SciPy and scikit-learn: kernels, the estimators' contract, risk control and
# its guarantee, golden values, threads and forks.
TESTS = [
    "tests/python/kernels",
    "tests/python/contract",
    "tests/python/control",
    "tests/python/risk_control",
    "tests/python/test_golden.py",
    "tests/python/test_threads.py",
    "tests/python/test_parallel_use.py",
]
FOLDERS = "tests/python tests/python/contract tests/python/consign"  # not python/: the wheel is tested


def declared() -> list[str]:
    """The versions of Python that the classifiers name."""
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    return re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text)


def version_of(interpreter: str) -> str | None:
    """Such as 3.12, with a t where threads are free; None for what is no CPython, or is not there."""
    path = shutil.which(interpreter)
    code = (
        "import sys, sysconfig; assert sys.implementation.name == 'cpython'; "
        "print('%d.%d' % sys.version_info[:2] + ('t' if sysconfig.get_config_var('Py_GIL_DISABLED') else ''))"
    )
    if path is None:
        return None
    done = subprocess.run([path, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def test(interpreter: str, wheel: Path) -> bool:
    """Installs the wheel in an environment of this interpreter, does the small job there, and runs the tests."""
    uv = [sys.executable, "-m", "uv"]
    package = f"conformask[{EXTRAS}] @ {wheel.as_uri()}"
    with tempfile.TemporaryDirectory(prefix="conformask-") as folder:
        python = Path(folder, "venv", "Scripts" if sys.platform == "win32" else "bin", "python")
        options = ["-q", "-p", "no:cacheprovider", "-m", "not slow", "-o", f"pythonpath={FOLDERS}"]
        steps: list[list[str | Path]] = [
            [*uv, "venv", "-q", "--python", interpreter, python.parents[1]],
            [*uv, "pip", "install", "-q", "--python", python, *TOOLS, package],
            [python, "-I", REPOSITORY / "tests/release/job.py"],
            [python, "-m", "pytest", *options, "-o", "addopts=-ra", *TESTS],
        ]
        return all(subprocess.run(step, cwd=REPOSITORY, check=False).returncode == 0 for step in steps)


def main() -> None:
    wheels = sorted((REPOSITORY / "dist").glob("*.whl"))
    if len(wheels) != 1:
        sys.exit(f"dist/ holds {len(wheels)} wheels: make wheel")
    passed, failed = [], []
    for interpreter in sys.argv[1:]:
        version = version_of(interpreter)
        if version not in declared() or version in passed + failed:
            state = f"Python {version}, left out" if version else "not there"
            print(f"-- {interpreter}: {state}", flush=True)
            continue
        print(f"-- {interpreter}: Python {version}", flush=True)
        (passed if test(interpreter, wheels[0]) else failed).append(version)
    missing = [version for version in declared() if version not in passed + failed]
    for state, versions in (("passed", passed), ("FAILED", failed), ("no interpreter", missing)):
        print(f"{wheels[0].name}: {state}: {', '.join(versions) or 'none'}")
    sys.exit(bool(failed) or not passed)


if __name__ == "__main__":
    main()
