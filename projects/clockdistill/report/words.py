"""A run's config in words."""

from collections.abc import Iterator
from typing import Any

from projects.clockdistill.report.run import Run

_OPTIONAL_LOSSES = {
    "memory_loss": "memory",
    "logit_loss": "logits",
    "feature_losses": "features",
}


def configuration(run: Run) -> Iterator[tuple[str, str]]:
    """Yields what a config says, as a term and its description."""
    name = "student" if run.is_distillation else "detector"
    yield name, describe_detector(run.detector)
    if run.is_distillation:
        yield "teacher", describe_detector(run.part("teacher"))
        yield "teacher's weights", str(run.select("model.teacher_checkpoint", "")) or "none"
    weights = run.select("train.init_checkpoint", "")
    term = "initial weights" if run.lines else "weights"
    yield term, str(weights) or "none: from scratch"
    if not run.lines:  # how the weights were trained, another run knows
        yield "data", f"tested on {run.test_data}"
        return
    train = run.select("dataloader.train.dataset.names")
    if train is not None:
        yield "data", f"trained on {_joined(train)}, tested on {run.test_data}"
    yield "schedule", _schedule(run)
    yield "optimizer", _optimizer(run)
    yield "detection losses", _detection_losses(run)
    if run.is_distillation:
        yield "distillation losses", _distillation_losses(run)


def describe_detector(node: dict[str, Any]) -> str:
    """Returns a detector's family, backbone, layers and queries."""
    parts = [_class(node)]
    backbone = node.get("backbone")
    if isinstance(backbone, dict):
        stages = backbone.get("stages")
        stages = stages if isinstance(stages, dict) else backbone
        name = _class(backbone)
        if "depth" in stages:
            name += f"-{stages['depth']}"
        elif "channels" in stages:
            blocks = "-".join(map(str, stages.get("blocks", [])))
            channels = "-".join(map(str, stages["channels"]))
            name += f" with {blocks} blocks of {channels} channels"
        parts[0] += f" on {name}"
    transformer = node.get("transformer")
    transformer = transformer if isinstance(transformer, dict) else {}
    for layer in ("encoder", "decoder"):
        number = (transformer.get(layer) or {}).get("num_layers")
        if number is not None:
            parts.append(f"{number} {layer} layers")
    for key, words in (("num_queries", "queries"), ("embed_dim", "channels")):
        if node.get(key) is not None:
            parts.append(f"{node[key]} {words}")
    if node.get("num_classes") is not None:
        parts.append(f"{node['num_classes']} classes")
    return ", ".join(parts)


def _schedule(run: Run) -> str:
    steps = run.select("train.max_iter", 0)
    batch = run.select("dataloader.train.total_batch_size")
    parts = [f"{steps:,} steps"]
    if batch is not None:
        parts.append(f"{batch} images a step")
    if run.select("train.accumulate_steps", 1) > 1:
        parts.append(f"in {run.cfg.train.accumulate_steps} chunks")
    parts.append(f"seed {run.select('train.seed')}")
    if run.select("train.amp.enabled"):
        parts.append(f"mixed precision in {run.select('train.amp.dtype')}")
    if run.select("train.model_ema.enabled"):
        decay = run.select("train.model_ema.decay")
        parts.append(f"moving average of the weights with decay {decay}")
    parts.append(f"on {run.select('train.device')}")
    return ", ".join(parts)


def _optimizer(run: Run) -> str:
    parts = [_class(run.cfg.get("optimizer"))]
    for key, words in (("lr", "learning rate"), ("weight_decay", "weight decay")):
        value = run.select(f"optimizer.{key}")
        if value is not None:
            parts.append(f"{words} {value:g}")
    factors = run.select("optimizer.params.lr_factors") or {}
    parts += [f"{name} at {factor:g} times that" for name, factor in factors.items() if factor != 1]
    scheduler = run.select("lr_multiplier.scheduler")
    if scheduler is not None:
        parts.append(_class(scheduler))
    if run.select("train.clip_grad.enabled"):
        parts.append(f"gradients clipped at norm {run.select('train.clip_grad.params.max_norm'):g}")
    return ", ".join(parts)


def _detection_losses(run: Run) -> str:
    criterion = run.detector.get("criterion")
    weights = criterion.get("weight_dict") if isinstance(criterion, dict) else None
    if not isinstance(weights, dict):
        return "the detector's own"
    names = {name.removeprefix("loss_"): weight for name, weight in weights.items()}
    return ", ".join(f"{name} (weight {weight:g})" for name, weight in names.items())


def _distillation_losses(run: Run) -> str:
    parts = []
    for key, words in _OPTIONAL_LOSSES.items():
        node = run.select(f"model.{key}")
        if node is None:
            continue
        if key == "feature_losses":  # one loss for each of its arguments
            names = [str(name) for name, value in node.items() if value and name != "_target_"]
            parts += [f"{words}: {', '.join(names)}"] if names else []
            continue
        weights = [
            f"{name.removesuffix('_weight')} {value:g}"
            for name, value in node.items()
            if name.endswith("_weight") and isinstance(value, int | float)
        ]
        if key == "memory_loss":
            weights = [
                f"{name} {run.select(f'model.token_weights.{name}'):g}"
                for name in ("alpha", "beta")
                if isinstance(run.select(f"model.token_weights.{name}"), int | float)
            ]
        parts.append(f"{words} ({', '.join(weights)})" if weights else words)
    return "; ".join(parts) or "none"


def _class(node: Any) -> str:
    """Returns the name of the class or function that a part of the config builds."""
    target = node.get("_target_") if hasattr(node, "get") else None
    name = target if isinstance(target, str) else getattr(target, "__name__", "unknown")
    return name.rpartition(".")[2]


def _joined(names: Any) -> str:
    return names if isinstance(names, str) else ", ".join(map(str, names))
