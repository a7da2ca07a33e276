#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""How long checkpoints take and how long the program stands still for them: ours, and NVIDIA's own (cuCheckpointProcess*) of
the same program natively, in one run. Prints a table, and with --json writes all figures.

    tests/bench/checkpoint.py --build BUILD [--driver real|soft] [--mib 8192,65536] [--python PYTHON-WITH-TORCH] [--json FILE]

Wants a build with optimization, and as much memory for a tmpfs as the largest size. checkpoint.md explains the rows.
"""
import argparse
import ctypes
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoint"))
from harness import App, Failure, PATIENCE, Skip, World, check, enter_own_pids, wait_for  # noqa: E402

COMPLETE = re.compile(r"is complete: (?P<mib>[0-9.]+) MiB \((?P<zeros>[0-9.]+) zero, (?P<shared>[0-9.]+) shared, (?P<written>[0-9.]+) "
                      r"written\) in (?P<complete>[0-9.]+) s; the session stood (?P<stood>[0-9.]+) ms \(capture (?P<capture>[0-9.]+), "
                      r"hash (?P<hash>[0-9.]+), copy (?P<copy>[0-9.]+), stream (?P<stream>[0-9.]+)\)")
RESTORED = re.compile(r"is restored, .*")
LONG = 600  # seconds of patience with one step


def ask(app, number, pattern):
    """The line with which the program answers a signal."""
    before = app.log.stat().st_size
    os.kill(app.pid, number)

    def answered():
        check(app.alive(), f"ended: {app.describe()}")
        return re.search(pattern, app.log.read_text()[before:])

    return wait_for(answered, lambda: f"an answer of {app.describe()}", LONG)


def gap(app):
    """(longest step in s, when it ended, steps a second) since the last answer."""
    found = ask(app, signal.SIGUSR2, r"gap ([0-9.]+) ended ([0-9.]+) steps (\d+) in ([0-9.]+)\n")
    milliseconds, ended, steps, seconds = (float(word) for word in found.groups())
    return milliseconds / 1e3, ended, steps / max(seconds, 1e-9)


def start(world, command, **kwargs):
    app = App(world, command, **kwargs)
    wait_for(lambda: "ready\n" in app.output() or not app.alive(), lambda: f"{app.describe()} to be ready", LONG)
    check(app.alive(), f"ended at its start: {app.describe()}")
    return app


def start_server(world, **environment):
    os.environ.update(environment)
    server = world.start_server()
    for name in environment:
        del os.environ[name]
    return server


def last_figures(server):
    found = list(COMPLETE.finditer(server.log.read_text()))
    check(found, f"the server says nothing of a snapshot:\n{server.log.read_text()[-2000:]}")
    return {name: float(value) for name, value in found[-1].groupdict().items()}


def snapshot(world, server, app, folder, *words):
    """One snapshot of the running program; `gap` is what the program noticed, the rest what the server says."""
    gap(app)
    began = time.time()
    world.control("snapshot", app.pid, folder, "--running", *words, patience=LONG)
    wall = time.time() - began
    longest, _, rate = gap(app)
    result = last_figures(server)
    result.update(wall=wall, gap=longest, rate=rate)
    return result


def median_of(results):
    return {key: statistics.median(one[key] for one in results) for key in results[0]}


class Ours:
    def __init__(self, world, arguments):
        self.world, self.arguments = world, arguments
        self.folder = world.folder / "snapshots"
        self.folder.mkdir()

    def clear(self):
        shutil.rmtree(self.folder)
        self.folder.mkdir()

    def program(self, mib):
        return start(self.world, [self.world.build / "tests/bench/checkpoint_app", str(mib), "--percent", "1"])

    def plain(self, mib, runs, **environment):
        server = start_server(self.world, **environment)
        app = self.program(mib)
        gap(app)
        time.sleep(0.5)
        rate = gap(app)[2]
        results = []
        for number in range(runs):
            results.append(snapshot(self.world, server, app, self.folder / "plain"))
            self.clear()
        result = median_of(results)
        result["idle_rate"] = rate
        app.finish(patience=LONG)
        server.stop()
        return result

    def series(self, mib, runs):
        server = start_server(self.world)
        app = self.program(mib)
        first = snapshot(self.world, server, app, self.folder / "s0", "--series")
        results = []
        for number in range(runs):
            ask(app, signal.SIGUSR1, r"changed (\d+)\n")
            results.append(snapshot(self.world, server, app, self.folder / f"s{number + 1}", "--series"))
        self.world.control("verify", self.folder / f"s{runs}", patience=LONG)
        app.finish(patience=LONG)
        server.stop()
        self.clear()
        return {"first": first, "changed": median_of(results)}

    def with_criu(self, mib):
        """Both halves, the program left running; then dumped, and brought back by another server."""
        server = start_server(self.world)
        app = self.program(mib)
        gap(app)
        began = time.time()
        self.world.control("checkpoint", app.pid, self.folder / "left", "--leave-running", patience=LONG)
        left = {"wall": time.time() - began, "gap": gap(app)[0], **last_figures(server)}
        self.clear()
        gap(app)
        result = {"leave_running": left, "restore": self.restore(app, server, mib)}
        self.world.servers[-1].stop()
        return result

    def restore(self, app, server, mib):
        """The GPU's half alone, with a session that was loaded and dropped; then `cricketctl restore`."""
        folder = self.folder / "whole"
        self.world.control("checkpoint", app.pid, folder, patience=LONG)
        wait_for(lambda: not app.alive(), "the checkpointed program to end", LONG)
        self.world.children.status.pop(app.pid, None)
        server.stop()
        server = start_server(self.world)
        load = time.time()
        self.world.control("load", folder / "gpu", patience=LONG)
        loaded = time.time()
        self.world.control("drop", app.pid, "--force", patience=LONG)
        server.stop()
        server = start_server(self.world)
        began = time.time()
        self.world.control("restore", folder, patience=LONG)
        back = time.time()
        _, ended, _ = gap(app)
        app.finish(patience=LONG)
        steps = RESTORED.findall(server.log.read_text())
        self.clear()
        return {"load": loaded - load, "command": back - began, "first_kernel": ended - began, "steps": steps[-1] if steps else ""}


class Nvidia:
    """The driver's own functions, called from here for the other process."""
    def __init__(self):
        try:
            self.driver = ctypes.CDLL("libcuda.so.1")
            self.call = lambda name, *words: getattr(self.driver, name)(*words)
            check(self.call("cuInit", 0) == 0, "cuInit fails")
            self.call("cuCheckpointProcessLock", 0, None)
        except (OSError, AttributeError) as error:
            raise Skip(f"no cuCheckpointProcess* here: {error}") from None

    def do(self, what, pid):
        nothing = ctypes.create_string_buffer(64)
        began = time.time()
        status = self.call(f"cuCheckpointProcess{what}", pid, nothing)
        check(status == 0, f"cuCheckpointProcess{what} of pid {pid}: error {status}")
        return time.time() - began

    def measure(self, world, mib):
        app = start(world, [world.build / "tests/bench/checkpoint_app", str(mib)], shim=False)
        gap(app)
        times = {what.lower(): self.do(what, app.pid) for what in ("Lock", "Checkpoint", "Restore", "Unlock")}
        longest, _, _ = gap(app)
        app.finish(patience=LONG)
        return {**times, "gap": longest}

    def training(self, world, python):
        app = start(world, [python, Path(__file__).parent / "checkpoint_train.py"], shim=False)
        images = world.folder / "native-training"
        images.mkdir()
        began = time.time()
        self.do("Lock", app.pid)
        self.do("Checkpoint", app.pid)
        checkpointed = time.time()
        result = world.run([world.criu, "dump", "-t", app.pid, "-D", images], patience=LONG)
        check(result.returncode == 0, f"criu dump of the native training failed: {result.stdout[-400:]}")
        dumped = time.time()
        world.children.wait(app.pid, "the dumped training")
        world.children.status.pop(app.pid, None)
        back = time.time()
        result = world.run([world.criu, "restore", "-d", "-D", images], patience=LONG)
        check(result.returncode == 0, f"criu restore of the native training failed: {result.stdout[-400:]}")
        self.do("Restore", app.pid)
        self.do("Unlock", app.pid)
        _, ended, _ = gap(app)
        app.finish(patience=LONG)
        return {"out": dumped - began, "of_it_cuda": checkpointed - began, "in": ended - back, "round": dumped - began + ended - back}


def our_training(world, python):
    server = start_server(world)
    app = start(world, [python, Path(__file__).parent / "checkpoint_train.py"])
    folder = world.folder / "training"
    began = time.time()
    world.control("checkpoint", app.pid, folder, patience=LONG)
    out = time.time() - began
    wait_for(lambda: not app.alive(), "the checkpointed training to end", LONG)
    world.children.status.pop(app.pid, None)
    server.kill()
    start_server(world)
    back = time.time()
    world.control("restore", folder, patience=LONG)
    _, ended, _ = gap(app)
    figures = last_figures(server)
    app.finish(patience=LONG)
    world.servers[-1].stop()
    return {"out": out, "in": ended - back, "round": out + ended - back, **figures}


def attempt(results, name, function):
    print(f"... {name}", file=sys.stderr, flush=True)
    try:
        results[name] = function()
    except (Failure, Skip) as why:
        results[name] = {"error": str(why)}
        print(f"{name}: {why}", file=sys.stderr)


def table(results, sizes):
    def cell(name, *path, scale=1.0, form="{:.3f}"):
        value = results.get(name, {"error": ""})
        for word in path:
            value = value.get(word) if isinstance(value, dict) else None
        return form.format(value * scale) if isinstance(value, (int, float)) else "-"

    rows = [("", "ours", "NVIDIA", "must reach")]
    for mib in sizes:
        gib = f"{mib / 1024:g} GiB"
        native = f"nvidia-{mib}"
        rows += [
            (f"{gib}: pause, s (copied aside on the device)", cell(f"plain-{mib}", "gap"), cell(native, "gap"), "0.1 (8), 0.3 (64)"),
            (f"{gib}: pause, s (no device memory free)", cell(f"host-{mib}", "gap"), cell(native, "gap"), "0.4 (8)"),
            (f"{gib}: pause, s (no memory free at all)", cell(f"files-{mib}", "gap"), "", ""),
            (f"{gib}: complete, s", cell(f"plain-{mib}", "complete"), cell(native, "checkpoint"), "0.8 (8)"),
            (f"{gib}: complete, GB/s", cell(f"plain-{mib}", "throughput", form="{:.1f}"), "", "10 (64)"),
            (f"{gib}: first of a series, complete, s", cell(f"series-{mib}", "first", "complete"), "", ""),
            (f"{gib}: 1 % changed: complete, s", cell(f"series-{mib}", "changed", "complete"), cell(native, "checkpoint"), "0.15 (8)"),
            (f"{gib}: 1 % changed: pause, s", cell(f"series-{mib}", "changed", "gap"), "", ""),
            (f"{gib}: 1 % changed: MiB written", cell(f"series-{mib}", "changed", "written", form="{:.0f}"), "", "150 (8)"),
            (f"{gib}: with criu, left running: pause, s", cell(f"criu-{mib}", "leave_running", "gap"), "", ""),
            (f"{gib}: restore, the GPU's half, s", cell(f"criu-{mib}", "restore", "load"), cell(native, "restore"), ""),
            (f"{gib}: restore to the first kernel, with criu, s", cell(f"criu-{mib}", "restore", "first_kernel"), "", "0.6 (8)"),
            (f"{gib}: steps/s while it is written, of those before",
             cell(f"plain-{mib}", "rate_kept", form="{:.2f}"), "", ""),
        ]
    if "training" in results:
        rows += [(f"PyTorch training with criu, {what}, s", cell("training", key), cell("nvidia-training", key), "faster" if key == "round" else "")
                 for key, what in (("out", "out"), ("in", "in, to the next step"), ("round", "both ways"))]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for number, row in enumerate(rows):
        print("| " + " | ".join(word.ljust(width) for word, width in zip(row, widths)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def own_tmpfs():
    """A tmpfs of ours where we may mount, else /dev/shm; returns it and whether it is to be unmounted."""
    folder = tempfile.mkdtemp(prefix="cricket-bench-")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100%", "tmpfs", folder], capture_output=True).returncode == 0:
        return folder, True
    os.rmdir(folder)
    return "/dev/shm", False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=Path(__file__).resolve().parents[2] / "build")
    parser.add_argument("--driver", default="real")
    parser.add_argument("--mib", default="8192,65536", help="sizes of device memory")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="plain,host,files,series,criu,nvidia,training", help="parts")
    parser.add_argument("--python", help="one that has torch: the training is measured too")
    parser.add_argument("--folder", help="where snapshots go; default: a tmpfs")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    arguments.seed, arguments.transport = 1, "ring"
    enter_own_pids()
    os.environ.setdefault("CRICKET_LOG", "info")
    folder, mounted = (arguments.folder, False) if arguments.folder else own_tmpfs()
    tempfile.tempdir = folder
    sizes, parts, results = [int(word) for word in arguments.mib.split(",")], arguments.only.split(","), {}
    world = World(arguments)
    try:
        ours = Ours(world, arguments)
        for mib in sizes:
            runs = arguments.runs if mib <= 16384 else 1
            if "plain" in parts:
                attempt(results, f"plain-{mib}", lambda: ours.plain(mib, runs))
                one = results[f"plain-{mib}"]
                if "complete" in one:
                    one["throughput"] = mib * 1048576 / 1e9 / one["complete"]
                    one["rate_kept"] = one["rate"] / one["idle_rate"]
            if "host" in parts:
                attempt(results, f"host-{mib}", lambda: ours.plain(mib, runs, CRICKET_ASIDE_DEVICE="0"))
            if "files" in parts:
                attempt(results, f"files-{mib}", lambda: ours.plain(mib, runs, CRICKET_ASIDE_DEVICE="0", CRICKET_ASIDE_HOST="0"))
            if "series" in parts:
                attempt(results, f"series-{mib}", lambda: ours.series(mib, runs))
            if "criu" in parts:
                attempt(results, f"criu-{mib}", lambda: (world.criu, ours.with_criu(mib))[1])
            if "nvidia" in parts and arguments.driver == "real":
                attempt(results, f"nvidia-{mib}", lambda: Nvidia().measure(world, mib))
            for app in world.apps:
                app.kill()
            for server in world.servers:
                if server.alive():
                    server.kill()
            ours.clear()
        if "training" in parts and arguments.python:
            attempt(results, "training", lambda: (world.criu, our_training(world, arguments.python))[1])
            if arguments.driver == "real":
                attempt(results, "nvidia-training", lambda: (world.criu, Nvidia().training(world, arguments.python))[1])
        table(results, sizes)
        for server in world.servers:  # what was not done as it should be
            for line in server.log.read_text().splitlines():
                if " warn: " in line or " error: " in line:
                    print(line)
        print(json.dumps(results))
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=1))
    finally:
        world.close(False)
        if mounted:
            subprocess.run(["umount", "-l", folder])
            os.rmdir(folder)
    sys.exit(1 if any("error" in one for one in results.values()) else 0)


main()
