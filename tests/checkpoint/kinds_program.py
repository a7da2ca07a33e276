# SPDX-License-Identifier: MIT
"""The program with all kinds of state (kinds/): it makes some of them, and waits until it is told to look at them."""
import os
import signal

from harness import check, wait_for


class Program:
    def __init__(self, world, names):
        self.world = world
        self.looked = world.folder / "looked"
        self.looked.unlink(missing_ok=True)
        self.app = world.start_program([world.build / "tests/checkpoint/kinds/kinds", *names])
        self.pid = self.app.pid
        wait_for(lambda: self.ended() or "ready" in self.app.output(), lambda: f"'ready' of {self.app.describe()}")
        check(not self.ended(), f"ended with status {world.children.status.get(self.pid)}: {self.app.describe()}")

    def ended(self):
        return not self.app.alive()

    def look(self):
        """The program looks at what it has, in the middle of its life."""
        self.begin_look()
        self.end_look()

    def begin_look(self):
        self.looked.unlink(missing_ok=True)
        os.kill(self.pid, signal.SIGUSR1)

    def end_look(self):
        wait_for(lambda: self.ended() or self.looked.exists(), lambda: f"a look of {self.app.describe()}")
        check(self.looked.exists(), f"ended: {self.app.describe()}")

    def adopt(self):
        self.world.children.status.pop(self.pid, None)
