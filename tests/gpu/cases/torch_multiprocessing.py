# SPDX-License-Identifier: MIT
# A CUDA tensor shared with spawned processes (cuIpc*): they see each other's writes; events cross as well.
# needs: torch
from support import deterministic_torch, show

torch = deterministic_torch()
import torch.multiprocessing as mp  # noqa: E402


def child(number, shared, queue, event):
    shared[number] += number + 1
    torch.cuda.synchronize()
    own = torch.full((256,), float(number), device="cuda")
    queue.put((number, shared.sum().item(), own))
    event.wait()  # `own` must live until the parent has read it


if __name__ == "__main__":
    context = mp.get_context("spawn")
    for number in range(3):
        shared = torch.arange(12, dtype=torch.float32, device="cuda").reshape(3, 4) * (number + 1)
        queue, event = context.Queue(), context.Event()
        process = context.Process(target=child, args=(number, shared, queue, event))
        process.start()
        seen, total, theirs = queue.get(timeout=90)
        show("child", seen, total, shared.tolist(), theirs.sum().item())
        theirs += 1
        torch.cuda.synchronize()
        show("theirs", theirs[:3].tolist())
        del theirs
        event.set()
        process.join(60)
        show("ended", process.exitcode)
    parameter = torch.nn.Linear(8, 8).cuda()
    parameter.share_memory()
    show("storage", parameter.weight.is_shared(), parameter.weight.sum().item())
