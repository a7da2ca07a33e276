# SPDX-License-Identifier: MIT
# A convolutional net: cuDNN forwards and backwards, batch normalization, channels_last, SGD with momentum.
# needs: torch
# variant float32: float32
# variant bf16: bfloat16
import sys

from support import deterministic_torch, show

torch = deterministic_torch()
from torch import nn  # noqa: E402


def layer(inside, outside, stride):
    return nn.Sequential(nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU())


kind = getattr(torch, sys.argv[1])
model = nn.Sequential(layer(3, 32, 1), layer(32, 64, 2), layer(64, 128, 2), layer(128, 128, 2),
                      nn.Flatten(), nn.Linear(128 * 16, 10)).cuda().to(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
generator = torch.Generator().manual_seed(7)
for step in range(30):
    images = torch.randn(32, 3, 32, 32, generator=generator).cuda().to(memory_format=torch.channels_last)
    labels = torch.randint(10, (32,), generator=generator).cuda()
    with torch.autocast("cuda", dtype=kind, enabled=kind != torch.float32):
        loss = nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    show("step", step, loss.item())
model.eval()
with torch.no_grad():
    show("evaluation", model(images))
show("conv3d", nn.Conv3d(4, 8, 3).cuda()(torch.randn(2, 4, 9, 9, 9, generator=generator).cuda()))
show("transposed", nn.ConvTranspose2d(8, 4, 3, stride=2).cuda()(torch.randn(2, 8, 9, 9, generator=generator).cuda()))
show("recurrent", nn.LSTM(32, 64, 2).cuda()(torch.randn(12, 4, 32, generator=generator).cuda())[0])
for name, parameter in model.named_parameters():
    show(name, parameter)
