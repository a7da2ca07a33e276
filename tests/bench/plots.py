#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Draws what compare.py measured, as SVG: what calls cost the application's thread, the copy curve, whole programs.

    plots.py all.json [--out DIR]         launches.svg, copies.svg, programs.svg (needs python3-matplotlib)
"""
import argparse
import json
import pathlib
import statistics

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "cricket", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
from matplotlib import pyplot  # noqa: E402

NATIVE, SHIM = "#8a8a8a", "#1f6fb4"
CALLS = {"launch_host_us": "launch,\nhost", "launch_throughput_us": "launch,\nthroughput", "launch_sync_us": "launch\n+ sync",
         "copy_4B_d2h_us": "4 B\nD2H", "copy_4B_h2d_us": "4 B\nH2D", "event_record_us": "event\nrecord",
         "stream_wait_event_us": "wait\nevent", "memset_async_us": "memset\nasync"}
PROGRAMS = {"gpt_per_s": "GPT training", "decode_per_s": "greedy decode", "conv_per_s": "conv net\ntraining",
            "graph_per_s": "graph replay", "eight_rounds_per_s": "eight programs\nat once"}


def median(report, row, side):
    values = report["rows"].get(row, {}).get(side)
    return statistics.median(values) if values else None


def save(figure, path, report):
    facts = report["machine"]
    words = {"GPU": "{}", "CPU": "{}", "cores": "{} cores", "version": "driver {}", "date": "{}"}
    about = ", ".join(text.format(facts[key]) for key, text in words.items() if key in facts)
    figure.text(0.01, 0.005, about, fontsize=6, color="#666666")
    figure.tight_layout(rect=(0, 0.02, 1, 1))
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    print(path)


def launches(report, path):
    rows = [row for row in CALLS if median(report, row, "shim") is not None]
    figure, axes = pyplot.subplots(figsize=(7.5, 3))
    for side, colour, shift in (("native", NATIVE, -0.2), ("shim", SHIM, 0.2)):
        values = [median(report, row, side) or 0 for row in rows]
        bars = axes.bar([at + shift for at in range(len(rows))], values, 0.38, color=colour, label=side)
        axes.bar_label(bars, [f"{value:.2f}" if value < 10 else f"{value:.1f}" for value in values], fontsize=7)
    axes.set_xticks(range(len(rows)), [CALLS[row] for row in rows])
    axes.set_ylabel("microseconds in the caller")
    axes.legend(frameon=False)
    save(figure, path, report)


def copies(report, path):
    figure, panels = pyplot.subplots(1, 2, figsize=(7.5, 3.2), sharey=True)
    for axes, memory in zip(panels, ("pageable", "pinned")):
        for side, colour in (("native", NATIVE), ("shim", SHIM)):
            for direction, style in (("h2d", "-"), ("d2h", "--")):
                points = []
                for row in report["rows"]:
                    if row.startswith(f"curve_{memory}_{direction}_") and (value := median(report, row, side)) is not None:
                        points.append((int(row.split("_")[3][:-1]) * 1024, value))
                if points:
                    axes.plot(*zip(*sorted(points)), style, color=colour, marker=".", label=f"{side}, {direction.upper()}")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks([4096, 65536, 1 << 20, 16 << 20], ["4 KiB", "64 KiB", "1 MiB", "16 MiB"])
        axes.set_title(memory, fontsize=9)
    panels[0].set_ylabel("GB/s")
    panels[0].legend(frameon=False, fontsize=7)
    save(figure, path, report)


def programs(report, path):
    rows = [row for row in PROGRAMS if median(report, row, "native") and median(report, row, "shim")]
    figure, axes = pyplot.subplots(figsize=(7.5, 2.6))
    ratios = [median(report, row, "shim") / median(report, row, "native") for row in rows]
    bars = axes.bar(range(len(rows)), ratios, 0.5, color=SHIM)
    axes.bar_label(bars, [f"{ratio:.2f}\n({median(report, row, 'shim'):.0f} /s)" for row, ratio in zip(rows, ratios)], fontsize=7)
    axes.axhline(1, color=NATIVE, linewidth=1)
    axes.set_xticks(range(len(rows)), [PROGRAMS[row] for row in rows])
    axes.set_ylabel("speed, native = 1")
    axes.set_ylim(0, max([1.3, *(ratio * 1.2 for ratio in ratios)]))
    save(figure, path, report)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    options = parser.parse_args()
    report = json.loads(options.json.read_text())
    launches(report, options.out / "launches.svg")
    copies(report, options.out / "copies.svg")
    programs(report, options.out / "programs.svg")


main()
