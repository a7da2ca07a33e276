#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""cricketctl run: a job that is told to stop, killed with all that belongs to it, or loses its server goes on by the same
command and ends with the output of an undisturbed run."""
import json
import os
import signal
import subprocess

from harness import check, check_message, children_of, losses, main, running, wait_for

STEPS = 12000


def test(world, arguments):
    world.criu
    program = [str(world.build / "examples/train"), "--steps", str(STEPS)]
    job = world.folder / "job"
    words = [str(world.control_program), "run", str(job), "--driver", world.driver, "--every", "1", "--", *program]
    shown = b""

    def begin():
        reader, writer = os.pipe()
        said = open(world.folder / "said", "ab")
        pid = world.children.start(words, stdin=subprocess.DEVNULL, stdout=writer, stderr=said, start_new_session=True,
                                   env=world.tool_environment())
        os.close(writer)
        os.set_blocking(reader, False)
        return pid, reader

    def listen(reader):
        nonlocal shown
        try:
            while chunk := os.read(reader, 1 << 16):
                shown += chunk
        except BlockingIOError:
            return True  # it may say more
        return False

    def wait_end(pid, reader, status):
        wait_for(lambda: not listen(reader), "the end of its output", 300)
        os.close(reader)
        got = world.children.wait(pid, "cricketctl run")
        check(got == status, f"cricketctl run ended with status {got} instead of {status}: {said()}")

    def said():
        return (world.folder / "said").read_text(errors="replace")

    def newest():
        if not (job / "checkpoints").is_dir():
            return ""
        return max((name for name in os.listdir(job / "checkpoints") if name.isdigit()), default="")

    def another(reader, before):
        def there():
            listen(reader)
            return newest() > before

        wait_for(there, lambda: f"a checkpoint after {before or 'none'}: {said()}")

    def gone():
        world.children.reap()  # it came to us
        return not os.path.exists(f"/proc/{program_pid}")

    # Told to stop.
    pid, reader = begin()
    another(reader, "")
    result = world.run(words)
    check_message(result.returncode, result.stdout, "another cricketctl run", "a second one in the same folder")
    os.kill(pid, signal.SIGTERM)
    wait_end(pid, reader, 75)
    check(len(os.listdir(job / "checkpoints")) <= 2, f"kept: {os.listdir(job / 'checkpoints')}")
    told = len(shown)
    check((job / "output").stat().st_size == told, "not all of the output was shown")

    # Killed: what was written after the newest checkpoint is written again.
    before = newest()
    pid, reader = begin()
    another(reader, before)
    program_pid = json.loads((job / "checkpoints" / newest() / "cricket.json").read_text())["pid"]
    server = next(child for child in children_of(pid) if child != program_pid)
    os.kill(pid, signal.SIGKILL)
    world.children.wait(pid, "the killed cricketctl run")
    os.close(reader)
    wait_for(lambda: not running(server), "the server to end with it")
    result = world.run(words)
    check_message(result.returncode, result.stdout, str(program_pid), "a run while the program of the killed one is there")
    os.kill(program_pid, signal.SIGKILL)
    wait_for(gone, "the program to end")

    # Its server is lost.
    before = newest()
    pid, reader = begin()
    another(reader, before)
    server = next(child for child in children_of(pid) if child != program_pid)
    os.kill(server, signal.SIGKILL)
    wait_end(pid, reader, 1)
    check("the same command goes on" in said(), said())
    wait_for(gone, "the program to end")

    pid, reader = begin()
    wait_end(pid, reader, 0)
    check(not (job / "checkpoints").exists(), "checkpoints of a program that has ended")
    output = (job / "output").read_text()
    server = world.start_server()
    undisturbed = world.start("train", "--steps", str(STEPS)).finish(stop=False)
    server.stop()
    check(losses(output) == losses(undisturbed), "the losses are not those of an undisturbed run")
    check(output.splitlines()[-1] == undisturbed.splitlines()[-1], f"{output[-200:]}")
    result = world.run(words)
    check(result.returncode == 0 and "has ended" in result.stdout, f"a run after the end: {result.stdout}")


main(__doc__, test)
