# SPDX-License-Identifier: MIT
"""train_steps.py STEPS: the program that criu_training.py dumps; PyTorch training that prints each loss to the bit."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from support import deterministic_torch  # noqa: E402

torch = deterministic_torch()
from support.gpt import GPT, batches, loss_of  # noqa: E402

model = GPT(layers=2).cuda()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
steps = int(sys.argv[1])
for step, tokens in enumerate(batches(steps)):
    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss = loss_of(model, tokens.pin_memory().cuda(non_blocking=True))
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(f"step {step} loss {loss.item().hex()}", flush=True)
print("PASS", steps, flush=True)
