# SPDX-License-Identifier: MIT
# cuFFT in all its kinds: complex, real, inverse, several dimensions, odd sizes, half precision.
# needs: torch
from support import deterministic_torch, show

torch = deterministic_torch()
generator = torch.Generator().manual_seed(10)
for length in (64, 1000, 1021, 4096, 65536):
    x = torch.randn(8, length, generator=generator).cuda()
    y = torch.fft.rfft(x)
    show("rfft", length, y, torch.fft.irfft(y, n=length))
    show("fft", length, torch.fft.fft(x.to(torch.complex64)), torch.fft.ifft(x.to(torch.complex128)))
image = torch.randn(4, 96, 120, generator=generator).cuda()
show("fft2", torch.fft.fft2(image), torch.fft.rfft2(image), torch.fft.fftshift(torch.fft.fft2(image)))
show("fftn", torch.fft.fftn(torch.randn(32, 32, 32, generator=generator).cuda().double()))
show("half", torch.view_as_real(torch.fft.fft(torch.randn(2, 256, generator=generator).cuda().half())).float())
show("stft", torch.stft(x[0], 512, window=torch.hann_window(512, device="cuda"), return_complex=True))
for _ in range(50):  # plans come and go
    image = torch.fft.ifft2(torch.fft.fft2(image)).real
show("again and again", image)
show("plans", torch.backends.cuda.cufft_plan_cache.size)
