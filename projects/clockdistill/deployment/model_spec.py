"""What a user of a detector must know besides its weights; stored in every file that holds it."""

import dataclasses
import json
from dataclasses import dataclass

from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from omegaconf import DictConfig, OmegaConf
from PIL import Image

import projects.clockdistill.data  # noqa: F401  registers the datasets
from projects.clockdistill import __version__
from projects.clockdistill.engine.config_file import ConfigError
from projects.clockdistill.engine.data_config import dataset_names
from projects.clockdistill.engine.environment import commit
from projects.clockdistill.errors import UserError
from projects.clockdistill.evaluation.coco import load_categories

KEY = "model_spec"  # of the JSON text, in checkpoints and in the metadata of exported files


@dataclass(frozen=True)
class ModelSpec:
    """Classes, input and origin of a detector.

    Attributes:
        class_names: by predicted class.
        category_ids: by predicted class, the id in the COCO JSON of the dataset.
        short_edge: pixels to which an image's shorter side is resized, keeping its shape; None
            leaves images as they are.
        max_size: limit of the longer side after resizing; None without a limit.
        input_format: channel order that the backbone reads, "RGB" or "BGR"; the detector takes RGB
            images and reorders them itself.
        pixel_mean: per channel in that order, on the scale 0 to 255.
        pixel_std: per channel in that order.
        threshold: lowest score of a detection that is shown.
        version: of this project, when the spec was made.
        commit: of this project, when the spec was made.
    """

    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    short_edge: int | None
    max_size: int | None
    input_format: str
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    threshold: float = 0.5
    version: str = __version__
    commit: str = dataclasses.field(default_factory=commit)

    def to_json(self) -> str:
        """Returns the spec as one JSON object."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "ModelSpec":
        """Reads what `to_json` wrote; keys of later versions are ignored.

        Raises:
            UserError: if the text is not such a JSON object.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        try:
            values = {key: value for key, value in json.loads(text).items() if key in names}
            return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(f"{KEY} is not a description of a detector: {error}") from error

    @classmethod
    def from_config(cls, cfg: DictConfig) -> "ModelSpec":
        """Reads the spec off the test data and the detector of a config; no image is read.

        Of a distillation config the detector is the student.

        Raises:
            ConfigError: with the key, if the config does not say what is needed.
        """
        name = dataset_names(cfg, "test")[0]
        class_names = _class_names(cfg, name)
        if not hasattr(MetadataCatalog.get(name), "thing_dataset_id_to_contiguous_id"):
            DatasetCatalog.get(name)  # ids that are known only once the annotations are read
        categories = load_categories(name)
        mapper = OmegaConf.select(cfg, "dataloader.test.mapper")
        if mapper is None or "augmentation" not in mapper:
            raise ConfigError(
                "the config has no dataloader.test.mapper.augmentation, which says how images are "
                "resized.\nFix: take dataloader.test from configs/common/coco.py"
            )
        short_edge, max_size = _resizing(instantiate(mapper.augmentation))
        detector = cfg.model.get("student", cfg.model)
        if detector.get("num_classes", len(class_names)) != len(class_names):
            raise ConfigError(
                f"model.num_classes={detector.num_classes}, but dataloader.test.dataset.names="
                f"{name} has {len(class_names)} classes.\nFix: name a dataset of the detector's "
                "classes"
            )
        for key in ("pixel_mean", "pixel_std"):
            if detector.get(key) is None:
                raise ConfigError(f"the config's detector has no {key}. Fix: set model.{key}")
        return cls(
            class_names=class_names,
            category_ids=tuple(categories[label] for label in range(len(class_names))),
            short_edge=short_edge,
            max_size=max_size,
            input_format=detector.get("input_format", "RGB"),
            pixel_mean=tuple(detector.pixel_mean),
            pixel_std=tuple(detector.pixel_std),
        )

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Returns height and width of an image after resizing.

        Raises:
            UserError: if nothing is left of its shorter side.
        """
        if self.short_edge is None:
            return height, width
        limit = float("inf") if self.max_size is None else self.max_size
        size = T.ResizeShortestEdge.get_output_shape(height, width, self.short_edge, limit)
        if 0 in size:
            raise UserError(f"an image of {height} x {width} pixels is too narrow: none are left")
        return size


def _class_names(cfg: DictConfig, name: str) -> tuple[str, ...]:
    """Returns the classes of a registered dataset, or of one that the config describes."""
    names = MetadataCatalog.get(name).get("thing_classes")
    if not names and "json_file" in cfg.dataloader.test.dataset:
        try:
            instantiate(cfg.dataloader.test.dataset)  # registers it
        except (OSError, ValueError) as error:
            raise ConfigError(f"dataloader.test.dataset: {error}") from error
        names = MetadataCatalog.get(name).get("thing_classes")
    if not names:
        raise ConfigError(
            f"dataloader.test.dataset.names={name} has no class names.\n"
            f"Fix: set MetadataCatalog.get('{name}').thing_classes = [...]"
        )
    return tuple(names)


def _resizing(augmentations: list[T.Augmentation]) -> tuple[int | None, int | None]:
    """Returns the shorter side and the limit of the longer one in the test mapper's transforms.

    Raises:
        ConfigError: if these are more than one resizing to one size.
    """
    if not augmentations:
        return None, None
    one = augmentations[0]
    if (
        len(augmentations) > 1
        or not isinstance(one, T.ResizeShortestEdge)
        or len(set(one.short_edge_length)) != 1
        or one.interp != Image.BILINEAR
    ):
        raise ConfigError(
            f"dataloader.test.mapper.augmentation is {augmentations}; prediction knows only "
            "ResizeShortestEdge with one length.\nFix: use [] or one ResizeShortestEdge"
        )
    unlimited = one.max_size >= 2**31  # detectron2's default is sys.maxsize
    return int(one.short_edge_length[0]), None if unlimited else int(one.max_size)
