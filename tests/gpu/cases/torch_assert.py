# SPDX-License-Identifier: MIT
# A failed assertion in a kernel: its text on the application's stderr, the native error, and a sticky context after it.
# needs: torch
# errors
# mask: \d+\.\d+\.\d+\.\d+ -> X
import os

from support import deterministic_torch, show

torch = deterministic_torch()
table = torch.arange(10, device="cuda")
show("before", table[torch.tensor([3, 9], device="cuda")].tolist())
index = torch.tensor([20], device="cuda")
for attempt in ("index", "synchronize", "new work", "copy"):
    try:
        if attempt == "index":
            table[index]
        elif attempt == "synchronize":
            torch.cuda.synchronize()
        elif attempt == "new work":
            torch.ones(4, device="cuda")
        else:
            table.cpu()
        show(attempt, "no error")
    except RuntimeError as error:
        show(attempt, type(error).__name__, str(error).splitlines()[0])
os._exit(0)  # destructors on a context that is lost are not the test
