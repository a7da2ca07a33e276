#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Whether this machine and the harness can do what the other tests rely on, shown with programs that have no GPU.

When this fails, the others say nothing about the product.
"""
import os
import signal
import sys

from harness import App, Failure, check, children_of, main

COUNTER = """
import signal, sys, time
go_on = True
def stop(*_):
    global go_on
    go_on = False
signal.signal(signal.SIGTERM, stop)
step = 0
while go_on:
    print("step", step, flush=True)
    step += 1
    time.sleep(0.001)
print("PASS", step)
"""
CONNECTED = "import socket, time; pair = socket.socketpair(); print('step 0', flush=True); time.sleep(1000)"

# Three children that stay, while threads and another child come and go.
PARENT = """
import subprocess, sys, threading
stay = [subprocess.Popen(["sleep", "1000"]) for _ in range(3)]
print(*(child.pid for child in stay), flush=True)
while True:
    threads = [threading.Thread(target=subprocess.run, args=(["true"],)), *(threading.Thread(target=int) for _ in range(4))]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
"""


def finds_children(world):
    app = App(world, [sys.executable, "-c", PARENT], shim=False)
    app.progress()
    stay = [int(pid) for pid in app.output().split()]
    for _ in range(200):
        found = children_of(app.pid)
        check([child for child in found if child in stay] == stay, f"of the children {stay} only {found} were found")
    app.kill()
    for child in stay:
        os.kill(child, signal.SIGKILL)


def test(world, arguments):
    app = App(world, [sys.executable, "-c", COUNTER], shim=False)
    app.progress()
    for cycle in range(5):
        images = world.folder / f"img{cycle}"
        app.dump(images)
        check(not app.alive(), "a dumped process is still there")
        app.restore(images)
        app.progress()
    steps = [line for line in app.finish().splitlines() if line.startswith("step")]
    check(steps == [f"step {i}" for i in range(len(steps))], "the restored counter did not go on where it was")

    app = App(world, [sys.executable, "-c", CONNECTED], shim=False)
    app.progress()
    try:
        app.check_clean()
    except Failure as failure:
        check("connected unix socket" in str(failure), f"found something else: {failure}")
    else:
        raise Failure("a connected socket was not noticed")
    app.kill()
    finds_children(world)


main(__doc__, test)
