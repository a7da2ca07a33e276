# SPDX-License-Identifier: MIT
# NCCL between two processes, one GPU each: memory of one session opened in the other.
# needs: torch
# limit: 180
import os
import socket
import sys

import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing


def work(rank, port):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), NCCL_NVLS_ENABLE="0")
    torch.cuda.set_device(rank)
    distributed.init_process_group("nccl", rank=rank, world_size=2)
    summed = torch.full((1 << 22,), rank + 1.0, device=f"cuda:{rank}")
    for _ in range(5):
        distributed.all_reduce(summed)
    gathered = [torch.empty(1000, device=f"cuda:{rank}") for _ in range(2)]
    distributed.all_gather(gathered, torch.arange(1000, device=f"cuda:{rank}") * (rank + 1.0))
    scattered = torch.empty(500, device=f"cuda:{rank}")
    distributed.reduce_scatter_tensor(scattered, torch.arange(1000.0, device=f"cuda:{rank}"))
    torch.cuda.synchronize()
    values = summed[0].item(), gathered[0].sum().item(), gathered[1].sum().item(), scattered.sum().item()
    for turn in range(2):  # one after the other, so that the order is the same
        if turn == rank:
            print("rank", rank, *values, flush=True)
        distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    if torch.cuda.device_count() < 2:
        print("needs two GPUs")
        sys.exit(77)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(work, (port,), nprocs=2)
