# SPDX-License-Identifier: MIT
"""What varies in the text of cuda-samples from one native run to the next, and is taken out before the comparison.

What is not listed here and varies all the same is found by running the program natively again (runner.settle), and
the report says so. A result, an error or a count is never masked by name.
"""
import re

NUMBER = r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+|nan|-?inf)(?:[eE][-+]?\d+)?"
UNIT = (r"(?:\(?(?:[mnu]?s|[mu]?secs?|msecs?|seconds?|milliseconds|microseconds)\b\)?"  # times
        r"|[KMGT]?i?B(?:ytes)?/s(?:ec)?|[KMGT]B/sec"  # bandwidths
        r"|[KMGT]?(?:flops?|FLOPS?|Flops?|FLOP)/s|[A-Za-z]*[Ff]lop/s|billion interactions"
        r"|[A-Za-z]*(?:[Pp]ix(?:els)?|elems|Elements|lookups|texlookups|Options|Numbers|sims|Points|Texels)\s*(?:/|[Pp]er )\s*s(?:ec(?:ond)?)?)")
LABEL = (r"(?:[Tt]ime|TIME|[Tt]hroughput|[Pp]erformance|[Bb]andwidth|TFLOPS|TOPS|FPS|[Ss]peedup|[Ll]atency|[Ee]lapsed|[Tt]ook|timing"
         r"|clocks/block|[Oo]ptions per sec\w*|[Gg]igaoptions per sec\w*|MegaPixels Per Second|memcopy|kernel|streams|non-streamed)")
GENERAL = [
    (re.compile(rf"{NUMBER}\s*(?={UNIT})"), "# "),
    (re.compile(rf"({LABEL}[^\n\d]{{0,40}}?){NUMBER}"), r"\1#"),
    (re.compile(r"CPU executed \d+ iterations"), "CPU executed # iterations"),
    (re.compile(r"0x[0-9a-fA-F]{6,}"), "0x#"),
    (re.compile(r"\b([Pp]id|PID|[Pp]rocess(?: id)?)([ :=]+)\d+"), r"\1\2#"),
    (re.compile(r"[ \t]+"), " "),
]
# Tables of measurements: only their shape is compared.
MEASUREMENTS = {"UnifiedMemoryPerf", "p2pBandwidthLatencyTest", "cudaGraphsPerfScaling", "alignedTypes", "simpleStreams", "StreamPriorities"}
ALL_NUMBERS = [(re.compile(NUMBER), "#"), (re.compile(r"[ \t]+"), " ")]
# Data drawn from the clock.
PER_SAMPLE = {
    "fp16ScalarProduct": [(re.compile(r"(Result \w+\s*:) .*"), r"\1 #")],
    "UnifiedMemoryStreams": [(re.compile(r"^Task \[\d+\], thread \[\d+\] executing on (device|host).*$", re.M), "Task"),
                             (re.compile(r"Executing tasks.*"), "Executing tasks")],
}
# Programs whose processes, threads or blocks print in no fixed order are settled by runner.settle, like everything
# else that varies. These measure overlap or take nearly all of the GPU's memory, so nothing may run beside them.
EXCLUSIVE = {"simpleHyperQ", "StreamPriorities", "UnifiedMemoryPerf", "simpleMultiCopy", "graphMemoryFootprint",
             "cudaCompressibleMemory", "cudaGraphsPerfScaling"}
# Words that a sample needs and test_args.json does not have, or that keep a benchmark short.
ARGUMENTS = {
    "cudaGraphsPerfScaling": ["3", "1", "1", "1", "0", "50", "200"],
}


def masks_of(name):
    return PER_SAMPLE.get(name, []) + (ALL_NUMBERS if name in MEASUREMENTS else GENERAL)
