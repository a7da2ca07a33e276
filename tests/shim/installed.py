#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What meson install makes: programs that find each other wherever the whole of it lies, and nothing that ldconfig would hand to
programs which did not ask for it. Where LD_PRELOAD cannot name the shim, no program runs without it."""
import re
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoint"))
from harness import Skip, check, check_message, main  # noqa: E402


def test(world, arguments):
    if not shutil.which("meson"):
        raise Skip("there is no meson here")
    place = world.folder / "installed"
    result = world.run(["meson", "install", "-C", world.build, "--no-rebuild", "--quiet", "--destdir", place])
    check(result.returncode == 0, f"meson install failed:\n{result.stdout}")
    control = next(place.rglob("bin/cricketctl"))
    shim = next(place.rglob("libcudashim.so"))
    said = world.run([control, "shim"])
    check(said.stdout == f"{shim}\n", f"cricketctl shim says: {said.stdout}")
    check(any(shim.parent.glob("libcricket-nvml.so")), "libcricket-nvml.so does not lie beside it")

    world.criu
    words = ["run", world.folder / "job", "--driver", "soft", "--", world.build / "examples/counter", "--steps", "50"]
    result = world.run([control, *words])
    check(result.returncode == 0 and "PASS counter" in result.stdout, f"cricketctl run: {result.stdout}")
    log = (world.folder / "job/server.log").read_text()
    check(f"driver {place}" in log and "session s1 is ready" in log, f"the server's log: {log}")

    # What ldconfig would find, and link, in the folders that it may be told of.
    for folder in {path.parent for path in place.rglob("*.so*")}:
        if folder.name in ("cricket", "softgpu"):
            continue
        links = subprocess.run(["/sbin/ldconfig", "-n", "-v", folder], capture_output=True, text=True, check=True).stdout
        check(not re.search(r"libcuda\.so|libnvidia-ml\.so", links), f"in {folder} ldconfig links {links}")
    check(shim.parent.name == "cricket", f"the shim is in {shim.parent}")

    spaced = world.folder / "with a space"
    place.rename(spaced)
    control = next(spaced.rglob("bin/cricketctl"))
    words[1] = world.folder / "job2"
    for command in (["shim"], words):
        result = world.run([control, *command])
        check_message(result.returncode, result.stdout, ["with a space", "LD_PRELOAD"], f"cricketctl {command[0]} in a folder with a space")
    check(not (world.folder / "job2/output").exists(), "something was begun")


main(__doc__, test)
