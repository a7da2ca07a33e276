#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""cricketctl verify --live: a restored session is what its snapshot says, and answers; what differs is named. And what was
tried on it is repeated by the next restore, so that everything lies where it lay."""
import json
import os

from harness import check, check_message, main, wait_for

DAMAGED = 2  # exit status


def live(world, *words, status=0):
    result = world.control("verify", "--live", *words, "--json", accept_failure=True)
    check(result.returncode == status, f"verify --live {words} ended with status {result.returncode}:\n{result.stdout}")
    return json.loads(result.stdout[:result.stdout.rindex("}") + 1])


def calls(world, app, more=50):
    def at_work():  # counter has its only memory in a module
        session = world.session_of(app.pid)
        return session and (session["device_bytes"] or session["calls"] > 500)

    wait_for(at_work, lambda: f"{app.describe()} to be at work")
    before = world.session_of(app.pid)["calls"]
    wait_for(lambda: world.session_of(app.pid)["calls"] > before + more, f"calls of {app.describe()}")


def contexts_answer(report, least_streams=0):
    check(report["contexts"], "no context was tried")
    for context in report["contexts"]:
        check(context["failed"] == [], f"a context failed: {context}")
    check(sum(context["streams"] for context in report["contexts"]) >= least_streams, f"too few streams: {report['contexts']}")


def test(world, arguments):
    world.criu
    server = world.start_server()
    example = arguments.example
    app = world.start(example, "--steps", "0", "--quiet")
    calls(world, app)

    # Of a running session: it stands still for a moment and goes on.
    report = live(world, app.pid)
    contexts_answer(report)
    check("snapshot" not in report, f"compared with what? {report}")
    calls(world, app)

    for cycle in range(3):
        app.dump(world.folder / f"img{cycle}")
        world.wait_state(app.pid, "parked")
        snapshot = world.folder / f"gpu{cycle}"
        world.control("snapshot", app.pid, snapshot)
        server.kill()
        server = world.start_server()
        world.control("load", snapshot)

        # Fresh from the snapshot, without and with its name: every byte as saved.
        for words in ([], [snapshot]):
            report = live(world, app.pid, *words)
            contexts_answer(report)
            check(report["snapshot"] == str(snapshot) and report["ranges"] > 0 and report["bytes"] > 0, f"{report}")
            check(report["differ"] == [] and report["gone"] == [], f"not as saved: {report}")
            check(report["calls_then"] == report["calls_now"], f"{report}")
            check(report["arrays"] > 0 or example != "textures", f"no array was compared: {report}")
        text = world.control("verify", "--live", app.pid).stdout
        for word in ("probe kernel ran", "all as saved"):
            check(word in text, f"the text says nothing of '{word}':\n{text}")

        # The program goes on after all that, and what it changes is named.
        app.restore(world.folder / f"img{cycle}")
        calls(world, app, 100)
        report = live(world, app.pid)
        contexts_answer(report)
        check(report["calls_now"] > report["calls_then"], f"{report}")
        calls(world, app)

    # Another session's snapshot is no measure; a session without the memory that the snapshot has is not what it was.
    other = world.start("counter", "--steps", "0", "--quiet")
    calls(world, other)
    result = world.control("verify", "--live", other.pid, snapshot, accept_failure=True)
    check_message(result.returncode, result.stdout, "snapshot of session", "comparing with another session's snapshot")
    check(result.returncode == 1, f"status {result.returncode}")
    calls(world, other)
    other.finish()
    app.finish()

    # The same for a whole checkpoint, by its folder's name.
    app = world.start(example, "--steps", "0", "--quiet")
    calls(world, app)
    folder = world.folder / "both"
    world.control("checkpoint", app.pid, folder)
    world.children.wait(app.pid, "the checkpointed program")
    world.control("load", folder / "gpu")
    report = live(world, app.pid, folder)
    contexts_answer(report)
    check(report["differ"] == [] and report["gone"] == [], f"not as saved: {report}")
    # A turned bit in the snapshot is found before it is taken for a difference.
    data = max((folder / "gpu").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    result = world.control("verify", folder, accept_failure=True)
    check(result.returncode == DAMAGED, f"status {result.returncode} for a damaged checkpoint:\n{result.stdout}")
    check_message(result.returncode, result.stdout, data.name, "verifying a damaged checkpoint")
    check(os.path.isdir(folder), "the damaged checkpoint is gone")
    server.stop()


main(__doc__, test, lambda parser: parser.add_argument("--example", default="streams", help="the program"))
