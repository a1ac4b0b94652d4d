"""MMSegmentation's ``tools/test.py`` on several CPU ranks: MMEngine's own launcher wants GPUs.

python run_ranks.py 2 config.py checkpoint.pth [options of tools/test.py]
"""

import runpy
import subprocess
import sys
from pathlib import Path


def launch(n_ranks: str, arguments: list[str]) -> int:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_ranks}"]
    return subprocess.run([*command, __file__, "rank", *arguments], check=False).returncode


def rank(arguments: list[str]) -> None:
    import mmcv_ext_shim  # noqa: F401 - before MMSegmentation
    import mmseg
    import torch.distributed as dist

    dist.init_process_group("gloo")  # before MMEngine would ask for a GPU
    tools = Path(mmseg.__file__).parent / ".mim" / "tools" / "test.py"
    sys.argv = [str(tools), *arguments, "--launcher", "pytorch"]
    runpy.run_path(str(tools), run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1] == "rank":
        rank(sys.argv[2:])
    else:
        sys.exit(launch(sys.argv[1], sys.argv[2:]))
