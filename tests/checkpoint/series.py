#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""cricketctl list and prune: the newest of each session stay and are whole, the older go, and what makers that died left; what
cannot be read stays."""
import json
import os
import shutil

from harness import check, check_message, main, wait_for


def at_work(world, app):
    wait_for(lambda: (world.session_of(app.pid) or {"calls": 0})["calls"] > 100, lambda: f"calls of {app.describe()}")


def listed(world, folder):
    return [entry["name"] for entry in json.loads(world.control("list", folder, "--json").stdout)]


def test(world, arguments):
    world.criu
    server = world.start_server()
    series = world.folder / "series"
    series.mkdir()
    first, second = (world.start("copies", "--steps", "0", "--mib", "2", "--quiet") for _ in range(2))
    for app in (first, second):
        at_work(world, app)
    names = []
    for number in range(4):
        for app, name in ((first, "a"), (second, "b")):
            world.control("checkpoint", app.pid, series / f"{name}{number}", "--leave-running")
            names.append(f"{name}{number}")
    check(sorted(listed(world, series)) == sorted(names), f"{listed(world, series)}")
    text = world.control("list", series).stdout
    check("checkpoint" in text and "copies" in text, f"list says:\n{text}")

    # What a killed maker leaves, what is somebody else's, what is damaged.
    (series / "a9.partial-0123abcd").mkdir()
    (series / "mine").mkdir()
    (series / "mine" / "precious").write_text("kept")
    shutil.copytree(series / "a0", series / "damaged")
    manifest = series / "damaged" / "gpu" / "manifest.json"
    manifest.write_text(manifest.read_text()[:-10])

    said = world.control("prune", series, "--keep", "2", "--dry-run", accept_failure=True).stdout
    check("would remove" in said and all((series / name).exists() for name in names), f"a dry run:\n{said}")
    result = world.control("prune", series, "--keep", "2", accept_failure=True)
    check_message(result.returncode, result.stdout, "damaged", "pruning a folder with a damaged one")
    left = sorted(os.listdir(series))
    check(left == ["a2", "a3", "b2", "b3", "damaged", "mine"], f"left after prune --keep 2: {left}")
    shutil.rmtree(series / "damaged")
    for name in ("a2", "a3", "b2", "b3"):
        world.control("verify", series / name)
    world.control("prune", series)
    check(sorted(os.listdir(series)) == ["a3", "b3", "mine"], f"left after prune: {os.listdir(series)}")
    check((series / "mine" / "precious").read_text() == "kept", "prune took what is not ours")

    # The last of a series is all that is needed.
    for app in (first, second):
        app.kill()
    server.kill()
    server = world.start_server()
    for app, name in ((first, "a3"), (second, "b3")):
        world.children.status.pop(app.pid, None)
        world.control("restore", series / name)
        at_work(world, app)
        app.finish()
    server.stop()


main(__doc__, test)
