"""Checkpoints of the plain detector, with the state that resuming needs."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils import comm
from torch import nn

from projects.clockdistill.engine import weights
from projects.clockdistill.engine.atomic import atomic_write
from projects.clockdistill.engine.checkpoint_names import Origin, translate
from projects.clockdistill.engine.conventions import (
    class_difference,
    differences,
    origin_of_spec,
)
from projects.clockdistill.engine.ema import ModelEma
from projects.clockdistill.engine.last_checkpoint import newest_whole
from projects.clockdistill.engine.weight_fit import (
    Fit,
    Misfit,
    fill_shared,
    not_finite,
    one_line,
    shortened,
    unequal_shared,
)
from projects.clockdistill.engine.weights import CheckpointError

logger = logging.getLogger(__name__)


def plain_detector(model: nn.Module) -> nn.Module:
    """Returns the student of a distillation model, and any other detector itself."""
    model = getattr(model, "module", model)  # out of DistributedDataParallel
    return getattr(model, "student", model)


class _DistillModules:
    """What distillation trains or draws besides the student; parts may be switched off later.

    Args:
        modules: `model.distill_modules`.
    """

    def __init__(self, modules: nn.Module) -> None:
        self._modules = modules

    def state_dict(self) -> dict[str, Any]:
        return self._modules.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        missing, unexpected = self._modules.load_state_dict(state, strict=False)
        if missing:
            raise CheckpointError(
                f"the checkpoint lacks parts of the distillation:\n{one_line(missing)}\n"
                "Fix: --resume with the parts of model that the run's config.yaml has, or start a "
                "new run"
            )
        if unexpected:
            logger.info("of parts that the config switches off:\n%s", shortened(unexpected))


class DetectorCheckpointer(DetectionCheckpointer):
    """detectron2's checkpointer with atomic writes, safe loading and exact resume.

    The key "model" of a file holds the plain detector's weights as they were evaluated (the moving
    average, if that is evaluated). A full checkpoint also holds "trainer", "distill"
    (`model.distill_modules`, if there are any), "ema" and "raw_model" (the weights in training,
    where "model" is the average). No file holds a teacher. "model_spec" is a text that describes
    the detector to whoever predicts with it.

    Args:
        model: a detector, or a distillation model with `student` and `distill_modules`.
        save_dir: folder of the run.
        ema: moving average of the plain detector.
        evaluates_ema: whether the average is evaluated.
        model_spec: what files hold under this key; None leaves it out.
        **checkpointables: further parts with `state_dict` and `load_state_dict`.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        ema: ModelEma | None = None,
        evaluates_ema: bool = False,
        model_spec: str | None = None,
        **checkpointables: Any,
    ) -> None:
        distill_modules = getattr(getattr(model, "module", model), "distill_modules", None)
        if distill_modules is not None:
            checkpointables["distill"] = _DistillModules(distill_modules)
        if ema is not None:
            checkpointables["ema"] = ema
        super().__init__(plain_detector(model), save_dir, **checkpointables)
        self._ema = ema
        self._evaluates_ema = evaluates_ema
        self._model_spec = model_spec
        self.loaded_spec: str | None = None  # "model_spec" of the file that was loaded last
        self._resuming = False
        self._file_has_ema = False
        self._check: Callable[[dict[str, torch.Tensor]], None] | None = None
        self._fit: Fit | None = None  # of the file that was read last
        self._unequal: list[str] = []
        self._origin = Origin()

    @property
    def loaded_classes(self) -> tuple[str, ...] | None:
        """Returns the class names of the file that was loaded last; None if they are unknown."""
        return self._origin.class_names

    # ---------------------------------------------------------------- writing

    def save(self, name: str, **extra: Any) -> None:
        """Writes a full checkpoint `name`.pth, from which `resume` continues.

        All processes call it together, since they collect their generators' states.
        """
        content = {"model": self._evaluated_weights()}
        if self._evaluates_ema:
            content["raw_model"] = self.model.state_dict()
        for key, part in self.checkpointables.items():
            content[key] = part.state_dict()
        if not self.save_dir or not self.save_to_disk:
            return
        self._write(name, {**content, **extra})
        self.tag_last_checkpoint(f"{name}.pth")

    def save_weights(self, name: str, **extra: Any) -> None:
        """Writes only the evaluated weights; `resume` continues from the same file as before."""
        if self.save_dir and self.save_to_disk:
            self._write(name, {"model": self._evaluated_weights(), **extra})

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Records the checkpoint to resume from."""
        with atomic_write(Path(self.save_dir) / "last_checkpoint", "w") as handle:
            handle.write(last_filename_basename)

    def _evaluated_weights(self) -> dict[str, torch.Tensor]:
        detector = self._ema.module if self._evaluates_ema else self.model
        return detector.state_dict()

    def _write(self, name: str, content: dict[str, Any]) -> None:
        path = Path(self.save_dir) / f"{name}.pth"
        logger.info("saving %s", path)
        if self._model_spec is not None:
            content["model_spec"] = self._model_spec
        with atomic_write(path) as handle:
            torch.save(content, handle)

    # ---------------------------------------------------------------- reading

    def load_initial(self, address: str, class_names: Sequence[str] | None = None) -> None:
        """Loads the weights to start from; what does not fit is logged.

        Args:
            address: path or URL of a detector or a backbone, or `torchvision://...` for a
                backbone; "" loads nothing.
            class_names: of the data, for a comparison with the file's.

        Raises:
            CheckpointError: if no key fits, or the backbone is not filled completely. The model is
                unchanged then.
        """
        if not address:
            logger.info("train.init_checkpoint is empty: starting from scratch")
            return
        what = f"train.init_checkpoint={address}"
        fix = 'name weights of this backbone, or start from scratch with train.init_checkpoint=""'
        self._load(
            address,
            "train.init_checkpoint",
            lambda state: self._require(what, fix, state, exact=False),
        )
        if self._fit.is_backbone:
            logger.info("the backbone starts from %s, the rest from scratch", address)
        elif self._fit.misfits:
            logger.warning(
                "%s fills %d of the model's %d keys; these keep their initial values:\n%s",
                what,
                len(self._fit.filled),
                len(self._fit.filled) + len(self._fit.misfits),
                shortened(self._fit.misfits),
            )
        other_classes = class_difference(self._origin.class_names, class_names)
        for line in [*differences(self._origin, self.model), *filter(None, [other_classes])]:
            logger.warning("%s: %s", what, line)
        self._log_unexpected(address)

    def load_exact(
        self,
        address: str,
        key: str,
        *,
        allow_unexpected: bool = True,
        class_names: Sequence[str] | None = None,
    ) -> None:
        """Loads weights that must fit completely.

        Args:
            address: path or URL.
            key: the config key that holds the address, for the message.
            allow_unexpected: whether the file may hold keys that the model does not have.
            class_names: of the data; None compares no names.

        Raises:
            CheckpointError: if they do not fit, or belong to a model that reads images in another
                way or has other classes. The model is unchanged then.
        """
        what = f"{key}={address}"
        fix = (
            "name a checkpoint of this model, or use the config of this checkpoint (class counts "
            "and sizes must agree)"
        )
        self._load(
            address,
            key,
            lambda state: self._require(
                what,
                fix,
                state,
                exact=True,
                allow_unexpected=allow_unexpected,
                class_names=class_names,
            ),
        )
        self._log_unexpected(address)

    def resume(self) -> bool:
        """Loads the last full checkpoint of the run; returns whether there was one.

        A damaged file is passed over with a warning for the one before it.

        Raises:
            CheckpointError: if none is whole, or it is of another model.
        """
        # the main process chooses: another machine may see a shared folder as it was a minute ago
        path, error = "", ""
        if comm.is_main_process():
            try:
                path = newest_whole(Path(self.save_dir))
            except CheckpointError as damaged:
                error = str(damaged)
        path, error = comm.all_gather((path, error))[0]
        if error:
            raise CheckpointError(error)
        if not path:
            logger.info("--resume: nothing to resume in %s", self.save_dir)
            return False
        if not comm.is_main_process() and not Path(path).is_file():
            raise CheckpointError(
                f"process {comm.get_rank()} has no file {path}, from which the main process "
                "resumes.\nFix: set train.output_dir to a folder that all machines share"
            )
        self._load(path, "last_checkpoint", resuming=True)
        self._require_exact(path)
        if self._ema is not None and not self._file_has_ema:
            self._ema.restart(self.model)
        return True

    def _load(
        self,
        address: str,
        key: str,
        check: Callable[[dict[str, torch.Tensor]], None] | None = None,
        *,
        resuming: bool = False,
    ) -> None:
        path = weights.local_path(address, key)
        self._resuming = resuming
        self._check = check
        self.load(path, checkpointables=None if resuming else [])

    def _load_file(self, filename: str) -> dict[str, Any]:
        """Reads a file; called by detectron2's `load`."""
        content = weights.read(filename)
        self._file_has_ema = "ema" in content
        self.loaded_spec = content.pop("model_spec", None)
        if self._resuming and "raw_model" in content:
            content["model"] = content.pop("raw_model")
        return content

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        """Compares a file with the model before it changes the model; called by `load`."""
        wanted = self.model.state_dict()
        state, self._origin = translate(
            checkpoint.pop("model"), wanted, str(checkpoint.get("__author__", ""))
        )
        fill_shared(state, wanted)
        self._unequal = unequal_shared(state, wanted)
        if self.loaded_spec is not None:
            self._origin = origin_of_spec(self.loaded_spec)
        self._fit = Fit.compare(state, wanted)
        if self._check is not None:
            self._check(state)
        return super()._load_model({"model": state})

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        """Logs nothing; `Fit` knows what does not fit. Called by detectron2's `load`."""

    def _require(
        self,
        what: str,
        fix: str,
        state: dict[str, torch.Tensor],
        *,
        exact: bool,
        allow_unexpected: bool = True,
        class_names: Sequence[str] | None = None,
    ) -> None:
        """Refuses a file that does not fit.

        Raises:
            CheckpointError: with the reason.
        """
        try:
            if exact:
                self._fit.require_exact(allow_unexpected=allow_unexpected)
            else:
                self._fit.require_start()
        except Misfit as error:
            logger.debug("all keys that do not fit:\n%s", "\n".join(self._fit.misfits))
            raise CheckpointError(f"{what}: {error}\nFix: {fix}") from error
        broken = not_finite(state, self._fit.filled)
        if broken:
            raise CheckpointError(
                f"{what}: it holds values that are not finite:\n{one_line(broken)}\n"
                "Fix: name a checkpoint from before the training diverged"
            )
        if not exact:
            return
        if self._unequal:
            raise CheckpointError(
                f"{what}: it has different weights where the model has one:\n"
                f"{one_line(self._unequal)}\nFix: {fix}"
            )
        for line in differences(self._origin, self.model):
            raise CheckpointError(f"{what}: {line}")
        other_classes = class_difference(self._origin.class_names, class_names)
        if other_classes is not None:
            raise CheckpointError(
                f"{what}: {other_classes}.\nFix: name weights of these classes, or list the "
                "data's in the file's order"
            )

    def _require_exact(self, what: str) -> None:
        fix = "name a checkpoint of this model, or use the config of this checkpoint"
        self._require(what, fix, {}, exact=True)

    def _log_unexpected(self, address: str) -> None:
        ignored = [f"{key}: {reason}" for key, reason in self._origin.ignored.items()]
        if ignored:
            logger.info(
                "%s: of %s; not used:\n%s", address, self._origin.project, shortened(ignored)
            )
        if self._fit.unexpected:
            logger.warning(
                "%s holds keys that the model does not have:\n%s",
                address,
                shortened(self._fit.unexpected),
            )
