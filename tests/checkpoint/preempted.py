#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""cricketctl run: a job that is told to stop, killed with all that belongs to it, or loses its server goes on by the same
command and ends with the output of an undisturbed run. So it does where its newest checkpoint is damaged: from an older one,
while the damaged one is named and kept; and where none is whole, or a whole one cannot be brought back, nothing is begun or lost."""
import json
import os
import shlex
import shutil
import signal
import subprocess

from harness import HERE, check, check_message, children_of, losses, main_of_parts, running, wait_for


class Job:
    def __init__(self, world, steps, every, script=None):
        self.world = world
        self.folder = world.folder / f"job{world.next_number()}"
        self.checkpoints = self.folder / "checkpoints"
        self.steps = str(steps)
        self.program = [str(world.build / "examples/train"), "--steps", self.steps]
        if script:
            self.program = ["/bin/sh", "-c", script.format(program=shlex.join(self.program))]
        self.words = [str(world.control_program), "run", str(self.folder), "--driver", world.driver, "--every", str(every), "--",
                      *self.program]
        self.shown = b""

    def begin(self, **environment):
        self.reader, writer = os.pipe()
        said = open(self.folder.with_suffix(".said"), "wb")
        self.pid = self.world.children.start(self.words, stdin=subprocess.DEVNULL, stdout=writer, stderr=said, start_new_session=True,
                                             env=self.world.tool_environment() | environment)
        os.close(writer)
        os.set_blocking(self.reader, False)

    def listen(self):
        try:
            while chunk := os.read(self.reader, 1 << 16):
                self.shown += chunk
        except BlockingIOError:
            return True  # it may say more
        return False

    def said(self):
        return self.folder.with_suffix(".said").read_text(errors="replace")

    def wait_end(self, status):
        wait_for(lambda: not self.listen(), lambda: f"the end of its output: {self.said()}", 300)
        os.close(self.reader)
        got = self.world.children.wait(self.pid, "cricketctl run")
        check(got == status, f"cricketctl run ended with status {got} instead of {status}: {self.said()}")
        return self.said()

    def stop(self):
        os.kill(self.pid, signal.SIGTERM)
        return self.wait_end(75)

    def numbers(self):
        return sorted(name for name in os.listdir(self.checkpoints) if name.isdigit()) if self.checkpoints.is_dir() else []

    def newest(self):
        return max(self.numbers(), default="")

    def another(self, before):
        def there():
            self.listen()
            return self.newest() > before

        wait_for(there, lambda: f"a checkpoint after {before or 'none'}: {self.said()}")

    def at_work(self):
        already = len(self.shown)
        wait_for(lambda: self.listen() and len(self.shown) > already, lambda: f"output of the program: {self.said()}")

    def program_pid(self):
        return json.loads((self.checkpoints / self.newest() / "cricket.json").read_text())["pid"]

    def running_program(self):
        return next(child for child in children_of(self.pid) if "train" in os.readlink(f"/proc/{child}/exe"))

    def end_program(self):
        """One that has no number of steps takes SIGTERM for its end: however fast the machine is, it ends neither before nor long after."""
        self.at_work()
        os.kill(self.running_program(), signal.SIGTERM)
        return self.wait_end(0)

    def right_result(self):
        output = (self.folder / "output").read_text()
        server = self.world.start_server()
        undisturbed = self.world.start("train", "--steps", str(len(losses(output)))).finish(stop=False)
        server.stop()
        check(losses(output) == losses(undisturbed), "the losses are not those of an undisturbed run")
        check(output.splitlines()[-1] == undisturbed.splitlines()[-1], f"{output[-200:]}")


def gone(world, pid):
    world.children.reap()  # it came to us
    return not os.path.exists(f"/proc/{pid}")


def interrupted(world):
    job = Job(world, 0, every=1)

    # Told to stop.
    job.begin()
    job.another("")
    result = world.run(job.words)
    check_message(result.returncode, result.stdout, "another cricketctl run", "a second one in the same folder")
    job.stop()
    check(len(job.numbers()) <= 2, f"kept: {os.listdir(job.checkpoints)}")
    check((job.folder / "output").stat().st_size == len(job.shown), "not all of the output was shown")

    # Killed: what was written after the newest checkpoint is written again.
    before = job.newest()
    job.begin()
    job.another(before)
    program_pid = job.program_pid()
    server = next(child for child in children_of(job.pid) if child != program_pid)
    os.kill(job.pid, signal.SIGKILL)
    world.children.wait(job.pid, "the killed cricketctl run")
    os.close(job.reader)
    wait_for(lambda: not running(server), "the server to end with it")
    result = world.run(job.words)
    check_message(result.returncode, result.stdout, str(program_pid), "a run while the program of the killed one is there")
    os.kill(program_pid, signal.SIGKILL)
    wait_for(lambda: gone(world, program_pid), "the program to end")

    # Its server is lost.
    before = job.newest()
    job.begin()
    job.another(before)
    server = next(child for child in children_of(job.pid) if child != program_pid)
    os.kill(server, signal.SIGKILL)
    check("the same command goes on" in job.wait_end(1), job.said())
    wait_for(lambda: gone(world, program_pid), "the program to end")

    job.begin()
    job.end_program()
    check(not job.checkpoints.exists(), "checkpoints of a program that has ended")
    job.right_result()
    result = world.run(job.words)
    check(result.returncode == 0 and "has ended" in result.stdout, f"a run after the end: {result.stdout}")


def train_below(pid):
    for child in children_of(pid):
        try:
            found = child if os.readlink(f"/proc/{child}/exe").endswith("/train") else train_below(child)
        except FileNotFoundError:
            continue  # it has just ended
        if found:
            return found
    return None


def wrapped(world):
    """A script around the program, with a pipe, and one program after the other; begun again at once."""
    job = Job(world, 0, every=1, script="before=here; {program} | cat; echo $before; {program}; echo over")
    for _ in range(2):
        before = job.newest()
        job.begin()
        job.another(before)
        check(os.path.basename(os.readlink(f"/proc/{job.program_pid()}/exe")) != "train", "it is not the script that is saved")
        job.stop()
        check(not children_of(os.getpid()) or all(not running(child) for child in children_of(os.getpid())), "something is left running")
    job.begin()
    output = job.folder / "output"
    for number in range(2):

        def at_work():
            job.listen()
            parts = output.read_text().split("here\n")
            return len(parts) == number + 1 and "step " in parts[-1] and train_below(job.pid)

        os.kill(wait_for(at_work, lambda: f"the script's program {number}: {job.said()}"), signal.SIGTERM)
    job.wait_end(0)
    parts = output.read_text().split("here\n")
    check(len(parts) == 2 and parts[1].endswith("over\n"), f"the script's own output: {parts[-1][-200:]}")
    server = world.start_server()
    for part in parts:
        undisturbed = world.start("train", "--steps", str(len(losses(part)))).finish(stop=False)
        check(losses(part) == losses(undisturbed), "the losses are not those of an undisturbed run")
    server.stop()


def stuck(world):
    """Told to stop while it cannot be saved: it goes on, and is saved as soon as that can be."""
    job = Job(world, 0, every=600)
    job.begin(CRICKET_WORKER_PATIENCE="1")
    job.at_work()
    program = job.running_program()
    server = next(child for child in children_of(job.pid) if child != program)
    worker = children_of(server)[0]
    os.kill(worker, signal.SIGSTOP)
    os.kill(job.pid, signal.SIGTERM)
    wait_for(lambda: "does not answer" in job.said(), lambda: f"it to say that it cannot be saved: {job.said()}")
    check(running(program) and not job.numbers(), f"the program was ended: {job.said()}")
    os.kill(worker, signal.SIGCONT)
    said = job.wait_end(75)
    check(said.count("does not answer") == 1, f"it said: {said}")
    check(len(job.numbers()) == 1, f"checkpoints: {job.numbers()}")
    world.control("verify", job.checkpoints / job.newest())


def change(path, at=None):
    """One bit of a file; in the middle, if no place is named."""
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2 if at is None else at)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 16]))


def largest(folder, pattern):
    return max(folder.glob(pattern), key=lambda path: path.stat().st_size)


def cut(path):
    os.truncate(path, path.stat().st_size - 1)


# What is done to a checkpoint, and the words in which it is told. The content of a pack is not read before it is loaded.
DAMAGE = {
    "a bit of the program's memory": (lambda one: change(largest(one / "app", "pages-*.img")), ["pages-", "corrupt"]),
    "a bit of the GPU's memory": (lambda one: change(largest(one / "gpu", "*.pack"), 100), [".pack", "corrupt", "part 'memory'"]),
    "a bit of the GPU's code": (lambda one: change(largest(one / "gpu", "*.pack")), [".pack", "corrupt", "part 'images'"]),
    "a truncated pack": (lambda one: cut(largest(one / "gpu", "*.pack")), [".pack", "truncated"]),
    "a truncated image": (lambda one: cut(largest(one / "app", "core-*.img")), ["core-", "truncated"]),
    "no GPU's half": (lambda one: shutil.rmtree(one / "gpu"), ["gpu"]),
    "no list": (lambda one: (one / "cricket.json").unlink(), ["cricket.json"]),
    "a bit of the list": (lambda one: change(one / "cricket.json"), ["cricket.json"]),
    "a bit of the index": (lambda one: change(one / "gpu/chunks.index"), ["chunks.index"]),
    "halves of two": (lambda one: (shutil.rmtree(one / "gpu"), shutil.copytree(older_than(one) / "gpu", one / "gpu")),
                      ["do not belong together"]),
    "nothing in it": (lambda one: (shutil.rmtree(one), one.mkdir()), ["cricket-epoch"]),
}


def older_than(one):
    return max(path for path in one.parent.iterdir() if path.name.isdigit() and path < one)


def damaged(world):
    job = Job(world, 0, every=600)
    kept = []

    def go_on():
        job.begin()
        job.at_work()
        return job.stop()

    go_on()
    for what, (damage, words) in DAMAGE.items():
        if len(job.numbers()) < 2:
            go_on()
        newest = job.checkpoints / job.newest()
        older = older_than(newest)
        damage(newest)
        said = go_on()
        check(all(word in said for word in [f"'{newest}' is damaged", f"going on from an older one, '{older}'", f"{newest}.damaged", *words]),
              f"after {what}: {said}")
        check("restored from" not in said.split("is damaged")[0], f"after {what} it was begun: {said}")
        kept.append(newest.name + ".damaged")
        check(not newest.exists() and set(kept) <= set(os.listdir(job.checkpoints)), f"after {what}: {os.listdir(job.checkpoints)}")
        result = world.run([world.control_program, "list", job.checkpoints])
        check(kept[-1] in result.stdout, f"list says: {result.stdout}")

    # None.
    go_on()
    places = {name: job.checkpoints / name for name in job.numbers()}
    check(len(places) == 2, f"there are {list(places)}")
    whole = job.folder.with_suffix(".whole")
    shutil.copytree(job.folder, whole, symlinks=True)
    for place in places.values():
        change(largest(place / "gpu", "*.pack"))

    def content():
        return {str(path.relative_to(job.folder)): path.read_bytes() for path in job.folder.rglob("*")
                if path.is_file() and path.suffix != ".log" and path.name != "lock"}

    before = content()
    for _ in range(2):
        job.begin()
        said = job.wait_end(1)
        hint = said[said.index("mv "):].split(", then")[0]
        check(all(str(place) in said for place in places.values()) and "nothing was begun" in said, said)
        check(shlex.split(hint) == ["mv", str(job.folder), f"{job.folder}.damaged"], said)
        check(content() == before, "something was changed")
        check(not children_of(os.getpid()) or all(not running(child) for child in children_of(os.getpid())), "something is left running")

    # A whole one that cannot be brought back, for a reason that is not its own, stays where it is.
    shutil.rmtree(job.folder)
    whole.rename(job.folder)
    job.begin(CRICKET_CRIU=str(HERE / "criu_faulty"), CRICKET_REAL_CRIU=world.criu, CRICKET_FAULT="refuse-restore",
              CRICKET_FAULT_DONE=str(world.folder / "fault"))
    said = job.wait_end(1)
    check("is whole" in said and "told to fail" in said and "damaged and" not in said, said)
    check(job.numbers() == sorted(places), f"there are {job.numbers()}")

    job.begin()
    said = job.end_program()
    check(all(name in said for name in kept), f"of those it keeps it said: {said}")
    check(sorted(os.listdir(job.checkpoints)) == sorted(kept), f"after its end: {os.listdir(job.checkpoints)}")
    job.right_result()


PARTS = {"interrupted": interrupted, "wrapped": wrapped, "stuck": stuck, "damaged": damaged}


main_of_parts(__doc__, PARTS, "done", needs_criu=True)
