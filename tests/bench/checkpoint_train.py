# SPDX-License-Identifier: MIT
"""A PyTorch training to be checkpointed: the small GPT of frameworks.py. SIGUSR2 is answered as checkpoint_app answers it,
SIGTERM ends it with PASS."""
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "gpu/cases"))
import torch  # noqa: E402
from support.gpt import GPT, batches, loss_of  # noqa: E402

flags = {signal.SIGUSR2: False, signal.SIGTERM: False}
for number in flags:
    signal.signal(number, lambda which, _: flags.__setitem__(which, True))
torch.manual_seed(1)
model = GPT(words=8192, length=256, width=512, heads=8, layers=8).cuda()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
data = [tokens.cuda() for tokens in batches(8, batch=4, length=256, words=8192)]
step = told = 0
longest, ended, last = 0.0, 0.0, None
while not flags[signal.SIGTERM]:
    loss = loss_of(model, data[step % len(data)])
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    loss.item()
    step += 1
    now = time.monotonic()
    if step == 5:  # everything is loaded
        print("ready", flush=True)
        since, last = now, now
    if last is None:
        continue
    if now - last > longest:
        longest, ended = now - last, time.time()
    last = now
    if flags[signal.SIGUSR2]:
        flags[signal.SIGUSR2] = False
        print(f"gap {longest * 1e3:.3f} ended {ended:.6f} steps {step - told} in {now - since:.6f}", flush=True)
        told, longest, since = step, 0.0, now
print(f"PASS {step} steps")
