#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Wrong words and wrong settings: each is named in one line, nothing is begun, and the program that runs goes on."""
import contextlib
import os
import socket
import subprocess

from harness import check, check_message, children_of, main_of_parts

LONG = "x" * 5000
PARTS = {}


def part(function):
    PARTS[function.__name__.replace("_", "-")] = function
    return function


def refused(world, command, naming, environment=None, patience=20):
    """The command ends by itself, not with 0, and all it says is one line on stderr that has each word of `naming`."""
    words = [str(word) for word in command]
    what = " ".join(word if len(word) < 100 else word[:40] + "..." for word in words) + f" {environment or ''}"[:200]
    result = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=patience,
                            env=world.tool_environment() | (environment or {}), cwd=world.folder)
    check_message(result.returncode, result.stderr, naming, what)
    check(len(result.stderr.strip().splitlines()) == 1, f"{what} says more than one line:\n{result.stderr}")


@contextlib.contextmanager
def nothing_changes(world):
    """A server with a program that runs all the while; no file may come or go beside them."""
    server = world.start_server()
    app = world.start("counter", "--steps", "0")
    app.progress()
    (world.folder / "file").write_text("x")
    (world.folder / "folder").mkdir()
    before = sorted(os.listdir(world.folder))
    yield
    check(sorted(os.listdir(world.folder)) == before, f"{before} became {sorted(os.listdir(world.folder))}")
    check(os.listdir(world.folder / "folder") == [], "something was written")
    check(server.alive(), "the server ended")
    app.progress()
    app.finish()
    server.stop()


@part
def cricketctl(world):
    with nothing_changes(world):
        control = world.control_program
        # Somebody listens, and says nothing.
        mute = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mute.bind(str(world.folder / "mute.sock.control"))
        mute.listen(1)
        unanswered = subprocess.Popen([control, "--socket", world.folder / "mute.sock", "resume", "s1"], stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=world.tool_environment())

        refused(world, [control], "subcommand")
        for words, naming in ((["nonsense"], "no command 'nonsense'"), ([""], "no command ''"), (["--nonsense"], "'--nonsense'"),
                              (["run", "--nonsense"], "'--nonsense'"), (["status", "more"], "'more'"),
                              (["status", "--", "more"], "more"), (["list", "folder", "--", "more"], "more"),
                              (["run", "job"], "-- PROGRAM"), (["run", "job", "--"], "-- PROGRAM"),
                              (["verify"], "directory"), (["verify", "--json", "folder"], "--live"),
                              (["snapshot", "s1", "made", "--json"], "--dry-run"),
                              (["snapshot", "s1", "made", "--compress=20"], "--compress")):
            refused(world, [control, *words], naming)
        for command in ("snapshot", "load", "checkpoint", "restore", "run", "list", "prune", "quiesce", "resume", "drop"):
            refused(world, [control, command], [f"cricketctl {command}:", "required"])
        for value in ("0", "-1", "abc", "1e3", "1.5", "99999999999999999999", ""):
            for words in (["quiesce", "s1", "--timeout"], ["checkpoint", "s1", "made", "--timeout"], ["prune", "folder", "--keep"],
                          ["run", "job", "--every"], ["run", "job", "--keep"]):
                refused(world, [control, *words, value], [words[-1], value])
        for name, naming in (("none", "none"), ("file", "file"), ("folder", "folder"), ("file/inside", "file"), ("", "empty"),
                             (LONG, "too long"), ("ünï 日本\nnewline", "日本"), ("/dev/null", "/dev/null")):
            for command in ("load", "restore", "verify"):
                if not (command == "verify" and name == ""):
                    refused(world, [control, command, name], naming)
            if name not in ("folder",):
                for command in ("list", "prune"):
                    refused(world, [control, command, name], naming)
        for target in ("s0", "s99999999999999999999", "-1", "0", "nonsense", "日本"):
            for words in (["quiesce", target], ["resume", target], ["drop", target], ["snapshot", target, "made"],
                          ["checkpoint", target, "made"], ["verify", "--live", target]):
                refused(world, [control, *words], target)
        refused(world, [control, "drop", LONG], "too long")
        refused(world, [control, "--socket", world.folder / "file", "status"], "file")
        refused(world, [control, "--socket", LONG, "status"], "too long")
        mute_says = unanswered.communicate(timeout=60)[0]
        check_message(unanswered.returncode, mute_says, ["mute.sock", "does not answer"], "a socket that is nobody's")
        mute.close()
        (world.folder / "mute.sock.control").unlink()


@part
def cricketctl_run(world):
    """What it was given is named; no server stays behind."""
    os.environ["CRICKET_CRIU"] = world.criu
    for folder, naming in (("file", "file"), ("file/inside", "file"), ("", "empty"), (LONG, "too long"), ("d" * 100, "characters")):
        (world.folder / "file").write_text("x")
        refused(world, [world.control_program, "run", folder, "--driver", "soft", "--", "true"], naming)
    check(sorted(os.listdir(world.folder)) == ["file"], f"something was made: {os.listdir(world.folder)}")
    (world.folder / "half").mkdir()
    (world.folder / "half/checkpoints").write_text("")
    refused(world, [world.control_program, "run", "half", "--driver", "soft", "--", "true"], "half/checkpoints")
    for program, naming in (("/nowhere/program", "/nowhere/program"), (world.folder / "file", "Permission denied"),
                            (world.folder, "Permission denied")):
        refused(world, [world.control_program, "run", "job", "--driver", "soft", "--", program], ["cannot start", naming])
    refused(world, [world.control_program, "run", "job", "--driver", "nonsense", "--", "true"], "--driver nonsense")
    refused(world, [world.control_program, "run", "job", "--", "true"], "file", {"CRICKET_CRIU": str(world.folder / "file")})
    # Devices that are not there: the program's own words for it.
    result = world.control("run", world.folder / "job", "--driver", "soft", "--devices", "7", "--", world.build / "examples/counter",
                           "--steps", "3", accept_failure=True)
    check_message(result.returncode, result.stdout, "NoDevice", "run --devices 7")
    world.children.reap()
    check(children_of(os.getpid()) == [], f"still running: {children_of(os.getpid())}")


@part
def cricket_server(world):
    with nothing_changes(world):
        server = [world.server_program]
        soft = [*server, "--driver", "soft"]
        refused(world, soft, ["another server", world.socket])
        file = world.folder / "file"
        for words, naming in ((["--nonsense"], "'--nonsense'"), (["more"], "'more'"), (["--driver", "nonsense"], "--driver nonsense"),
                              (["--driver", file], file), (["--driver", "/"], "'/'"),
                              (["--park-timeout", "-1"], "--park-timeout"), (["--park-timeout", "abc"], "abc"),
                              (["--state-dir", ""], "--state-dir"), (["--state-dir", file], "file"),
                              (["--state-dir", "none/inside"], "none/inside"),
                              (["--listen-rpc", "nonsense"], "nonsense"), (["--listen-rpc", "tcp:127.0.0.1"], "port"),
                              (["--listen-rpc", "tcp:127.0.0.1:99999"], "99999"), (["--listen-rpc", "tcp:127.0.0.1:abc"], "abc"),
                              (["--listen-rpc", "unix:"], "''"), (["--listen-rpc", f"unix:{file}"], "file"),
                              (["--nvml", "/nowhere/libnvidia-ml.so.1"], "/nowhere"), (["--nvml", "/"], "'/'"), (["--nvml", ""], "--nvml"),
                              (["--socket", file], "file"), (["--socket", "none/inside/socket"], "none/inside"),
                              (["--socket", "x" * 108], "107"), (["--socket", "x" * 104], "107")):
            # All else is as it should be.
            others = {"--driver": "soft", "--socket": world.folder / "other.sock"}
            refused(world, [*server, *(word for pair in others.items() if pair[0] != words[0] for word in pair), *words], naming)
            for path in world.folder.glob("other.sock*"):
                path.unlink()
        for variable, value in (("CRICKET_FETCH_THREADS", "abc"), ("CRICKET_FETCH_THREADS", "-1"), ("CRICKET_FETCH_THREADS", "1000000"),
                                ("CRICKET_ASIDE_DEVICE", "1G"), ("CRICKET_ASIDE_HOST", "much"), ("CRICKET_WORKER_PATIENCE", "0"),
                                ("CRICKET_WORKER_PATIENCE", "soon")):
            refused(world, soft, f"{variable}={value}", {variable: value})


@part
def environment(world):
    """The shim's settings: one that leads nowhere ends the program with CUDA's own error, another is told and left out."""
    server = world.start_server()
    counter = [world.build / "examples/counter", "--steps", "3", "--quiet"]
    preloaded = {"LD_PRELOAD": str(world.shim)}
    (world.folder / "file").write_text("x")
    for variable, value, naming in (
            ("CRICKET_SOCKET", "none.sock", f"{world.folder}/none.sock"), ("CRICKET_SOCKET", str(world.folder / "file"), "file"),
            ("CRICKET_SOCKET", "/" + "y" * 107, "108 characters"), ("CRICKET_SOCKET", "/" + LONG, "5001 characters"),
            ("CRICKET_SOCKET", "/two\nlines", "two lines"), ("CRICKET_TRANSPORT", "nonsense", "nonsense"),
            ("CRICKET_TRANSPORT", "unix:/nowhere/socket", "/nowhere/socket"), ("CRICKET_TRANSPORT", f"unix:{LONG}", "too long"),
            ("CRICKET_TRANSPORT", "tcp:127.0.0.1", "HOST:PORT"), ("CRICKET_TRANSPORT", "tcp:127.0.0.1:99999", "99999"),
            ("CRICKET_TRANSPORT", "tcp:127.0.0.1:1", "refused"), ("CUDA_VISIBLE_DEVICES", LONG, "CUDA_VISIBLE_DEVICES")):
        refused(world, counter, naming, {**preloaded, variable: value})
    for variable, value, naming in (
            ("CRICKET_RECONNECT_TIMEOUT", "soon", "soon"), ("CRICKET_RECONNECT_TIMEOUT", "-1", "-1"),
            ("CRICKET_LOG", "loud", "loud"), ("CRICKET_TRACE_FILE", "/nowhere/trace", "/nowhere/trace"),
            ("CRICKET_TRACE_FILE", str(world.folder), "directory"), ("CUDA_MUCH", "x" * 60000, "CUDA_MUCH")):
        result = world.run(counter, env=world.environment(**preloaded, CRICKET_TRACE="1" if "TRACE" in variable else "0", **{variable: value}))
        told = [line for line in result.stdout.splitlines() if line.startswith("cricket[")]
        check(result.returncode == 0 and len(told) == 1 and naming in told[0], f"{variable}={value}:\n{result.stdout}")
    # Somebody has the socket and reads nothing: told, while it waits.
    silent = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    silent.bind(str(world.folder / "silent.sock"))
    app = world.start("counter", "--steps", "3", env={"CRICKET_SOCKET": str(world.folder / "silent.sock"), "CRICKET_RECONNECT_TIMEOUT": "12"})
    status = world.children.wait(app.pid, "a program whose server is silent")
    check_message(status, app.errors.read_text(), ["silent.sock does not answer", "gave up"], app.describe())
    silent.close()
    server.stop()


main_of_parts(__doc__, PARTS, "refused as it should be")
