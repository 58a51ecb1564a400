"""All benchmarks of networks on this machine, into one record: ``make bench``, or on a GPU in one command.

::

    python benchmarks/bench.py [--device cuda] [--quick] [--minutes 7] [--out _build/benchmarks] [--go-on]

The most important cases come first, and the record is written after each.  A case that fails is noted with its error,
one without time left is named.  ``--go-on`` completes a record of the same machine.  To publish one, commit it in
``results/benchmarks``: the page ``notebooks/speed.py`` shows what lies there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import epochs
import floor
import networks
import torch
from layer import Shape
from networks import Pair
from timing import machine, write

Case = tuple[str, dict[str, Any], Callable[[], dict[str, Any]]]
"""Part, settings that tell the case from others, and what measures it."""


def pairs(device: str) -> list[Pair]:
    """Pairs of networks, those with limits first."""
    if device == "cuda":
        small = Pair("pure20", 128, 32, layout="channels_last", rounds=25)
        large = Pair("pure34", 64, 224, 1000, "channels_last", "bfloat16", rounds=25)
        sizes = [replace(large, model="pure18"), replace(small, model="pure110")]
        return [
            large,
            replace(large, compiled=True),
            small,
            replace(small, precision="bfloat16"),
            *sizes,
            replace(large, precision="float32"),
            replace(large, layout="contiguous"),
            replace(small, layout="contiguous"),
            replace(small, compiled=True),
            replace(small, shortcuts="defaults"),
            replace(sizes[0], compiled=True),
            replace(large, precision="float32", compiled=True),
            replace(sizes[1], compiled=True),
        ]
    small, large = Pair("pure20", 128, 32, rounds=11), Pair("pure18", 4, 224, 1000, rounds=7)
    channels_last = partial(replace, layout="channels_last")
    deep = replace(small, model="pure110", batch=16, rounds=7)
    larger = replace(large, model="pure34", batch=2)
    return [
        small,
        large,
        replace(small, compiled=True),
        channels_last(small),
        replace(small, shortcuts="defaults"),
        larger,
        deep,
        replace(large, compiled=True),
        replace(larger, compiled=True),
        replace(small, compiled=True, shortcuts="defaults"),
        channels_last(large),
        channels_last(small, compiled=True),
        channels_last(larger),
        channels_last(deep),
        replace(deep, compiled=True),  # minutes of compilation: last
    ]


def trainings(device: str, quick: bool) -> list[dict[str, Any]]:
    """Settings of the trainings whose epochs are timed."""
    if device == "cpu":
        return [{"images": 256 if quick else 1280, "rounds": 2 if quick else 4}]
    small = {"images": 50_000, "rounds": 5, "channels_last": True, "cuda_graphs": True}
    return [
        small,
        small | {"precision": "bfloat16", "unit_precision": "bfloat16"},
        small | {"precision": "tf32", "unit_precision": "tf32"},
        small | {"cuda_graphs": False, "rounds": 3},
    ]


def maps(device: str) -> list[tuple[Shape, str]]:
    """Feature maps of the first stage of PURe20 and PURe34, with their precision."""
    small, large = Shape("pure20", 128, 16, 32), Shape("pure34", 64, 64, 56)
    if device == "cpu":
        return [(small, "float32"), (Shape("pure34", 4, 64, 56), "float32")]
    return [(shape, precision) for precision in ("float32", "bfloat16") for shape in (small, large)]


def cases(device: str, quick: bool) -> list[Case]:
    """All cases, those with limits first; a quick run has a few small ones."""
    tables: dict[str, list[Case]] = {"networks": [], "epoch": [], "floor": []}
    chosen = pairs(device)
    if quick:
        tiny = Pair("pure20", 16, 32, rounds=3)
        chosen = [tiny, replace(tiny, layout="channels_last"), replace(tiny, shortcuts="defaults")]
    for pair in chosen:
        tables["networks"].append(("networks", asdict(pair), partial(networks.measure, pair, device)))
    for settings in trainings(device, quick):
        tables["epoch"].append(("epoch", settings, partial(epochs.measure, "pure20", device, **settings)))
    for shape, precision in maps(device):
        rounds = 5 if quick else 15
        named = {**shape._asdict(), "precision": precision}
        tables["floor"].append(("floor", named, partial(floor.measure, shape, device, precision, rounds)))
    first = 4
    return [*tables["networks"][:first], *tables["epoch"], *tables["floor"], *tables["networks"][first:]]


def file_name(found: dict[str, Any]) -> str:
    """A machine's record: its processor in letters and digits."""
    return re.sub(r"[^a-z0-9]+", "-", str(found["device"]).lower()).strip("-") + ".json"


def run(device: str, quick: bool, minutes: float, out: Path, go_on: bool) -> Path:
    """Measure what there is time for.  Returns the file of the record."""
    found = machine(device)
    path = out / file_name(found)
    record: dict[str, Any] = {"device": device, "machine": found, "commit": _commit(), "quick": quick, "cases": []}
    if go_on and path.exists():
        record = json.loads(path.read_text(encoding="utf-8"))
    done = {case["id"] for case in record["cases"]}
    record["left_out"] = []
    end = time.monotonic() + 60 * minutes
    for part, settings, measure in cases(device, quick):
        name = f"{part} {json.dumps(settings, sort_keys=True)}"
        if name in done:
            continue
        if time.monotonic() > end:
            record["left_out"].append({"part": part, **settings})
            continue
        clock = time.perf_counter()
        case: dict[str, Any] = {"part": part, "id": name}
        try:
            case |= measure()
        except Exception as error:  # a failing case must not take the others along
            traceback.print_exc()
            case |= settings | {"error": f"{type(error).__name__}: {error}"[:2000]}
        case["took_s"] = round(time.perf_counter() - clock, 1)
        case["load"] = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        record["cases"].append(case)
        write(path, record)
        print(f"[{case['took_s']:.0f} s] {summary(case)}", flush=True)
        _release(device, (end - time.monotonic()) / 60)
    write(path, record)
    for case in record["left_out"]:
        print("left out, no time:", json.dumps(case))
    print(f"{path}: {len(record['cases'])} cases")
    return path


def summary(case: dict[str, Any]) -> str:
    """A case in a line."""
    if "error" in case:
        return f"{case['id']}: {case['error'].splitlines()[0]}"
    if case["part"] == "networks":
        return networks.line(case)
    if case["part"] == "epoch":
        seconds = {name: sorted(each)[len(each) // 2] for name, each in case["seconds"].items()}
        return f"epoch of {case['images']:,} images {case['settings']}: " + ", ".join(
            f"{name} {each:.2f} s, {case['images'] / each:,.0f} images/s" for name, each in seconds.items()
        )
    took = {
        name: sorted(part["seconds"])[len(part["seconds"]) // 2] * case["bytes_per_second"] / part["bytes"]
        for name, part in case["parts"].items()
    }
    return (
        f"{case['network']} {case['precision']}, copy at {case['bytes_per_second'] / 1e9:.0f} GB/s; time / floor: "
        + (", ".join(f"{name} {each:.1f}" for name, each in took.items()))
    )


def _release(device: str, minutes: float) -> None:
    """Free what a case has left, or begin a new process, for the minutes left, where the GPU answers no more."""
    if device != "cuda":
        return
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except RuntimeError:
        print("the GPU's context is lost: going on in a new process", flush=True)
        os.execv(sys.executable, [sys.executable, *sys.argv, "--go-on", "--minutes", f"{max(0.0, minutes):.2f}"])


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    except OSError:
        return None
    return asked.stdout.strip() or None


def main() -> None:
    """Measure on the device that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--quick", action="store_true", help="few small cases: about a minute")
    parser.add_argument("--minutes", type=float, default=6, help="no case begins after this time")
    parser.add_argument("--out", type=Path, default=Path("_build/benchmarks"), metavar="DIR")
    parser.add_argument("--go-on", action="store_true", help="keep the cases of a record that is there")
    options = parser.parse_args()
    if options.device == "cpu":
        torch.set_num_threads(1)  # a shared machine's cores are not all free, and ratios need no more
    torch.backends.cudnn.benchmark = True
    run(options.device, options.quick, options.minutes, options.out, options.go_on)


if __name__ == "__main__":
    main()
