"""What a config says of its data: datasets, evaluators, images without labels, batches."""

from omegaconf import DictConfig, ListConfig, OmegaConf

from projects.clockdistill.engine.config_file import ConfigError, named_arguments


def dataset_names(cfg: DictConfig, part: str) -> list[str]:
    """Returns `cfg.dataloader.<part>.dataset.names` as a list."""
    names = OmegaConf.select(cfg, f"dataloader.{part}.dataset.names")
    if names is None:
        raise ConfigError(
            f"the config has no dataloader.{part}.dataset.names. Fix: set it to a registered "
            "dataset, such as kitti_train"
        )
    return [names] if isinstance(names, str) else list(names)


def evaluator_calls(dataloader: DictConfig) -> dict[str, DictConfig]:
    """Returns the lazy calls of `dataloader.evaluator`, one or a list of them, by their keys.

    A null in the list leaves an evaluator out.

    Raises:
        ConfigError: if nothing is left in the list.
    """
    key, node = "dataloader.evaluator", dataloader.get("evaluator")
    if not isinstance(node, ListConfig):
        return {key: node}
    calls = {f"{key}.{index}": call for index, call in enumerate(node) if call is not None}
    if not calls:
        raise ConfigError(f"{key}={node}: expected at least one lazy call")
    return calls


def is_seeded(node: DictConfig) -> bool:
    """Returns whether train_loader.py decides order and draws, as for any usual config.

    Args:
        node: `cfg.dataloader.train`.
    """
    needed = {"dataset", "mapper", "sampler", "total_batch_size"}
    return node.get("sampler") is None and needed <= set(named_arguments(node))


def unlabelled_names(dataloader: DictConfig) -> list[str]:
    """Returns `dataloader.unlabelled.names` as a list; empty if there is no such key."""
    names = OmegaConf.select(dataloader, "unlabelled.names") or []
    return [names] if isinstance(names, str) else list(names)


def check_unlabelled(cfg: DictConfig) -> None:
    """Refuses images without labels where the loader or the model would make no use of them.

    Raises:
        ConfigError: with the key and the fix.
    """
    names = unlabelled_names(cfg.dataloader)
    if names and "teacher" not in cfg.model:
        raise ConfigError(
            f"dataloader.unlabelled.names={names}, but the model has no teacher, without which "
            "images without labels teach nothing.\nFix: use a distillation config, or leave "
            "dataloader.unlabelled.names empty"
        )
    if names and cfg.model.get("pseudo_targets") is None:
        raise ConfigError(
            f"dataloader.unlabelled.names={names}, but model.pseudo_targets is null.\n"
            "Fix: set it as configs/models/distill.py does"
        )
    if names and "ratio" not in cfg.dataloader.unlabelled:
        raise ConfigError(
            "dataloader.unlabelled has names, but no ratio.\nFix: dataloader.unlabelled.ratio=0.5, "
            "half of each batch"
        )
    if names and not is_seeded(cfg.dataloader.train):
        raise ConfigError(
            f"dataloader.unlabelled.names={names}, but dataloader.train has its own sampler or "
            "another builder, which would not read them.\nFix: use build_detection_train_loader "
            "without a sampler, or leave dataloader.unlabelled.names empty"
        )


def unlabelled_per_process(images: int, ratio: float) -> int:
    """Returns how many of a process's images of a batch have no labels.

    Raises:
        ConfigError: if it would be none or all of them, or no whole number.
    """
    number = images * ratio
    whole = round(number)
    if not 1 <= whole <= images - 1 or abs(number - whole) > 1e-6:
        raise ConfigError(
            f"dataloader.unlabelled.ratio={ratio} of {images} images of a process and step is "
            f"{number:g}; expected a whole number from 1 to {images - 1}.\n"
            "Fix: change it, or dataloader.train.total_batch_size"
        )
    return whole


def check_batch_size(cfg: DictConfig, processes: int) -> None:
    """Checks that the training batch splits into equal parts for all processes and their chunks.

    Raises:
        ConfigError: with the key and the fix.
    """
    steps = cfg.train.accumulate_steps
    images = cfg.dataloader.train.get("total_batch_size")
    if images is not None and images % (processes * steps):
        raise ConfigError(
            f"dataloader.train.total_batch_size={images} cannot be split into equal parts for "
            f"{processes} process(es) with train.accumulate_steps={steps} each.\n"
            f"Fix: use a multiple of {processes * steps}"
        )
    if images is not None and unlabelled_names(cfg.dataloader):
        unlabelled_per_process(images // processes, cfg.dataloader.unlabelled.ratio)
