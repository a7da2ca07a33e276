# SPDX-License-Identifier: MIT
# Worker processes that are forked from a process with a session and never touch CUDA; pinned batches, copied while computing.
# needs: torch
from support import deterministic_torch, show

torch = deterministic_torch()
from torch.utils.data import DataLoader, Dataset  # noqa: E402


class Numbers(Dataset):
    def __len__(self):
        return 640

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return torch.randn(64, generator=generator), index % 10


if __name__ == "__main__":
    model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for context in ("fork", "spawn"):
        loader = DataLoader(Numbers(), batch_size=32, shuffle=True, num_workers=3, pin_memory=True,
                            generator=torch.Generator().manual_seed(1), multiprocessing_context=context)
        for epoch in range(2):
            for batch, (x, label) in enumerate(loader):
                if not x.is_pinned():
                    raise SystemExit("a batch is not pinned")
                x, label = x.cuda(non_blocking=True), label.cuda(non_blocking=True)
                loss = torch.nn.functional.cross_entropy(model(x), label)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                show(context, epoch, batch, loss.item())
