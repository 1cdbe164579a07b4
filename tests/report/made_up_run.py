"""A run folder with made-up figures and detections, as `tools/train_net.py` leaves it."""

import json
from pathlib import Path

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from omegaconf import OmegaConf

from projects.clockdistill.engine.config_file import load_config, save_config
from projects.clockdistill.evaluation.coco import CocoEvaluator
from projects.clockdistill.evaluation.report import write_results
from tests.tiny_run import PLAIN, OracleDetector, tiny_overrides


def made_up_run(
    root: Path,
    config: str = PLAIN,
    name: str = "output",
    *,
    trained: bool = True,
    mistakes: bool | None = True,
    classes: list[str] | None = None,
    overrides: tuple[str, ...] = (),
) -> Path:
    """Writes config, metrics, results and detections of a run, and returns its folder.

    Args:
        root: folder for the data and the run.
        config: `PLAIN`, `TEACHER` or `DISTILLED`.
        name: of the run's folder.
        trained: whether it logged losses and AP.
        mistakes: whether in every other image the objects of the next are detected; None evaluates
            nothing.
        classes: names of the test data's classes, instead of the drawings' own.
        overrides: of the config.
    """
    cfg = load_config(config, [*tiny_overrides(root, config), *overrides])
    cfg.train.output_dir = str(root / name)
    folder = root / name
    folder.mkdir()
    save_config(cfg, folder / "config.yaml")
    data = "drawings_val"
    if classes is not None:
        metadata = MetadataCatalog.get(data).as_dict()
        MetadataCatalog.remove(data)
        MetadataCatalog.get(data).set(**(metadata | {"thing_classes": classes}))
    metrics = {}
    if mistakes is not None:
        evaluator = CocoEvaluator(data, str(folder / "inference"))
        evaluator.reset()
        for index, record in enumerate(DatasetCatalog.get(data)):
            detector = OracleDetector(data, shift=index % 2 if mistakes else 0)
            evaluator.process([record], detector([record]))
        results = evaluator.evaluate()
        write_results(results, folder)
        metrics = {f"bbox/{key}": value for key, value in results["bbox"].items()}
    if trained:
        distillation = (
            {"loss_distill_memory": 30.0} if OmegaConf.select(cfg, "model.teacher") else {}
        )
        lines = [
            {
                "iteration": step - 1,
                "loss_class": 2 / step,
                "loss_bbox": 3 / step,
                "time": 0.25,
                "data_time": 0.05,
                **{key: value / step for key, value in distillation.items()},
                **(metrics if step == 8 else {}),
            }
            for step in (2, 4, 6, 8)
        ]
        (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    torch.save({}, folder / "model_final.pth")
    return folder
