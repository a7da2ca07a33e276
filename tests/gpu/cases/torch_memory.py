# SPDX-License-Identifier: MIT
# Every allocator of PyTorch under the same load: the statistics are counted by PyTorch and must be the native ones.
# needs: torch
# variant default:
# variant expandable: PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
# variant async: PYTORCH_CUDA_ALLOC_CONF=backend:cudaMallocAsync
# variant split: PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:32,garbage_collection_threshold:0.6
import os

from support import deterministic_torch, show

torch = deterministic_torch()
from support.gpt import GPT, batches, loss_of  # noqa: E402

backend = torch.cuda.get_allocator_backend()
show("backend", backend)


def numbers(label):
    torch.cuda.synchronize()
    if backend == "native":
        stats = torch.cuda.memory_stats()
        # What is split off which segment depends on the order of their addresses, which are not the native ones.
        show(label, *(f"{key}={stats[key]}" for key in sorted(stats)
                      if isinstance(stats[key], int) and ".all." in key and "inactive_split" not in key))
    else:
        show(label, torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated())


held = []
generator = torch.Generator().manual_seed(6)
for step in range(400):
    size = int(torch.randint(1, 1 << 22, (1,), generator=generator))
    held.append(torch.full((size,), step, dtype=torch.int32, device="cuda"))
    if len(held) > 30:
        index = int(torch.randint(len(held), (1,), generator=generator))
        gone = held.pop(index)
        if int(gone[-1]) != int(gone[0]):
            raise SystemExit(f"memory of step {int(gone[0])} was overwritten")
        del gone
numbers("random sizes")
show("held", *(int(x.sum(dtype=torch.int64)) for x in held))
held.clear()
numbers("released")
torch.cuda.empty_cache()
numbers("emptied")

model = GPT(layers=2).cuda()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
for step, tokens in enumerate(batches(10)):
    loss = loss_of(model, tokens.cuda())
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    show("step", step, loss.item())
numbers("trained")
if backend == "native":
    show("summary", "CUDA Memory summary".lower() in torch.cuda.memory_summary().lower())
    show("snapshot", len(torch.cuda.memory_snapshot()))

# What is too large is refused with PyTorch's own error, and the process goes on.
if "expandable" in os.environ.get("PYTORCH_CUDA_ALLOC_CONF", ""):
    torch.cuda.set_per_process_memory_fraction(0.9)  # else it takes all of the GPU's memory, piece by piece, before it gives up
try:
    torch.empty(1 << 44, dtype=torch.uint8, device="cuda")
except torch.cuda.OutOfMemoryError as error:
    show("too large", type(error).__name__, "Tried to allocate" in str(error) or "out of memory" in str(error))
torch.cuda.set_per_process_memory_fraction(0.25)
try:
    torch.empty(torch.cuda.get_device_properties(0).total_memory // 2, dtype=torch.uint8, device="cuda")
    show("above the fraction", "given")
except torch.cuda.OutOfMemoryError as error:
    show("above the fraction", type(error).__name__)
show("still works", torch.ones(1000, device="cuda").sum().item())
