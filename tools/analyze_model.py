"""The costs of a detector: parameters, multiply-adds by part, memory, latency.

    python tools/analyze_model.py --config-file projects/clockdistill/configs/dino_r18_kitti.py
    python tools/analyze_model.py --config-file ... --height 800 --width 1064 --json costs.json
    python tools/analyze_model.py --config-file ... --device cpu model.student.num_queries=300

Of a distillation config it shows student and teacher side by side. Needs neither weights nor data:
weights are random and the image is noise, on which no figure depends. One image at a time, float32,
eval mode. Any key of the config can be overridden at the end of the line.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

# run as a script, only tools/ is on the path
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import projects.clockdistill  # noqa: F401  before detectron2: silences a warning of its import

# isort: split
import torch
from omegaconf import DictConfig, OmegaConf

from projects.clockdistill.analysis.costs import Costs, costs_table, uncounted_line
from projects.clockdistill.analysis.flops import count_flops
from projects.clockdistill.analysis.latency import measure_latency
from projects.clockdistill.analysis.memory import peak_activation_bytes
from projects.clockdistill.engine.arguments import (
    one_line_errors,
    positive_int,
    tool_parser,
)
from projects.clockdistill.engine.checks import build, check_calls, check_device, check_values
from projects.clockdistill.engine.config_file import ConfigError, load_config

NOTE = """\
One image, float32, random weights, device {device}, {threads} CPU threads.
Multiply-adds as fvcore counts them, with all of attention and deformable attention. Reshaping,
copying, indexing, comparing, ReLU and clamping are free; other operators without a formula are
named below.
Activations, peak: the most memory that tensors made by one forward pass hold at one time, without
gradients, and without weights and what kernels hold within themselves.
Latency: eval mode, image to detections, {repeats} passes after {warmup} that do not count; models
take turns."""


def detectors(cfg: DictConfig) -> dict[str, DictConfig]:
    """Returns the configs of all detectors, by name."""
    if not isinstance(cfg.get("model"), DictConfig):
        raise ConfigError("the config has no model. Fix: name a config of a model to train")
    names = [name for name in ("student", "teacher") if name in cfg.model]
    return {name: cfg.model[name] for name in names} or {"model": cfg.model}


def choose_device(cfg: DictConfig, wanted: str | None) -> torch.device:
    """Returns --device, or by default the config's train.device if it is available, or the CPU."""
    if wanted:
        return torch.device(check_device(wanted, "--device"))
    name = OmegaConf.select(cfg, "train.device", default="cpu")
    try:
        return torch.device(check_device(name, "train.device"))
    except ConfigError:
        return torch.device("cpu")


def noise(height: int, width: int) -> list[dict[str, Any]]:
    """Returns one image as a data mapper makes it."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(256, (3, height, width), dtype=torch.uint8, generator=generator)
    return [{"image": image, "height": height, "width": width}]


def analyze(
    configs: dict[str, DictConfig], arguments: argparse.Namespace, device: torch.device
) -> list[Costs]:
    """Builds and measures all detectors."""
    inputs = noise(arguments.height, arguments.width)
    models = {
        name: build(config, name if name == "model" else f"model.{name}")
        for name, config in configs.items()
    }
    flops, memory = {}, {}
    for name, model in models.items():
        print(f"counting: {name} at {arguments.height} x {arguments.width}", flush=True)
        flops[name] = count_flops(model, inputs)  # on the CPU, before it moves
        memory[name] = peak_activation_bytes(model.to(device), inputs)
    print(f"timing: {', '.join(models)} on {device}", flush=True)
    passes = measure_latency(list(models.values()), inputs, arguments.warmup, arguments.repeats)
    return [
        Costs(
            name=name,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            flops=flops[name],
            activation_bytes=memory[name],
            seconds=seconds,
            warmup=arguments.warmup,
            device=str(device),
        )
        for (name, model), seconds in zip(models.items(), passes, strict=True)
    ]


def report(arguments: argparse.Namespace) -> None:
    """Measures, prints and writes."""
    cfg = load_config(arguments.config_file, arguments.opts)
    configs = detectors(cfg)
    check_calls(cfg.model, "model")
    check_values(cfg.model, "model")
    device = choose_device(cfg, arguments.device)
    models = analyze(configs, arguments, device)
    note = NOTE.format(
        device=device,
        threads=torch.get_num_threads(),
        repeats=arguments.repeats,
        warmup=arguments.warmup,
    )
    print("", costs_table(models), "", note, *map(uncounted_line, models), sep="\n")
    if arguments.json is not None:
        figures = {
            "input": [arguments.height, arguments.width],
            "models": [model.as_json() for model in models],
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def main(argv: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument("--config-file", required=True, metavar="FILE")
    # A KITTI image of 375 x 1242 with its shorter side at 800, unless the longer passes 1333.
    parser.add_argument("--height", type=positive_int, default=402, help="default: 402")
    parser.add_argument("--width", type=positive_int, default=1333, help="default: 1333")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    parser.add_argument("--device", help="default: train.device if available, or cpu")
    parser.add_argument("--warmup", type=positive_int, default=3, help="passes before; default: 3")
    parser.add_argument("--repeats", type=positive_int, default=10, help="passes; default: 10")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="key=value", help="overrides")
    arguments = parser.parse_args(argv)
    with one_line_errors(arguments.debug):
        report(arguments)


if __name__ == "__main__":
    main()
