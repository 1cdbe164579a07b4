"""Checkpoints of the plain detector, with the state that resuming needs."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils import comm
from torch import nn

from projects.clockdistill.engine import weights
from projects.clockdistill.engine.atomic import atomic_write
from projects.clockdistill.engine.ema import ModelEma
from projects.clockdistill.engine.last_checkpoint import newest_whole
from projects.clockdistill.engine.weights import BACKBONE, CheckpointError

logger = logging.getLogger(__name__)

_SHOWN_KEYS = 3


def plain_detector(model: nn.Module) -> nn.Module:
    """Returns the student of a distillation model, and any other detector itself."""
    model = getattr(model, "module", model)  # out of DistributedDataParallel
    return getattr(model, "student", model)


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
        allow_pickle: whether files that need pickled code may be loaded.
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
        allow_pickle: bool = False,
        model_spec: str | None = None,
        **checkpointables: Any,
    ) -> None:
        distill_modules = getattr(getattr(model, "module", model), "distill_modules", None)
        if distill_modules is not None:
            checkpointables["distill"] = distill_modules
        if ema is not None:
            checkpointables["ema"] = ema
        super().__init__(plain_detector(model), save_dir, **checkpointables)
        self._ema = ema
        self._evaluates_ema = evaluates_ema
        self._allow_pickle = allow_pickle
        self._model_spec = model_spec
        self.loaded_spec: str | None = None  # "model_spec" of the file that was loaded last
        self._resuming = False
        self._is_backbone = False
        self._file_has_ema = False
        self._incompatible: Any = None

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

    def load_initial(self, address: str) -> None:
        """Loads the weights to start from; keys that do not fit are logged.

        Args:
            address: path or URL of a detector or a backbone, or `torchvision://...` for a
                backbone; "" loads nothing.

        Raises:
            CheckpointError: if no key fits, or a backbone does not fit completely.
        """
        if not address:
            logger.info("train.init_checkpoint is empty: starting from scratch")
            return
        self._load(address, "train.init_checkpoint")
        misfits = self._misfits()
        if self._is_backbone:
            misfits = [line for line in misfits if line.startswith(BACKBONE)]
            if misfits:
                raise CheckpointError(
                    f"train.init_checkpoint={address} does not fit this backbone:\n"
                    f"{_summary(misfits)}\nFix: name weights of the backbone's depth, or start "
                    'from scratch with train.init_checkpoint=""'
                )
            logger.info("the backbone starts from %s, the rest from scratch", address)
            return
        # torch does not call a batch norm's counter missing
        keys = [k for k in self.model.state_dict() if not k.endswith("num_batches_tracked")]
        if set(keys) <= set(self._incompatible.missing_keys):
            raise CheckpointError(
                f"train.init_checkpoint={address}: none of its keys fits this model. It has "
                f"{self._incompatible.unexpected_keys[:3]}, the model {keys[:3]}"
            )
        if misfits:
            logger.warning(
                "train.init_checkpoint=%s fits in part; these keys keep their initial values:\n%s",
                address,
                "\n".join(misfits),
            )
        self._log_unexpected(address)

    def load_exact(self, address: str, key: str, *, allow_unexpected: bool = True) -> None:
        """Loads weights that must fit completely.

        Args:
            address: path or URL.
            key: the config key that holds the address, for the message.
            allow_unexpected: whether the file may hold keys that the model does not have.

        Raises:
            CheckpointError: if they do not fit.
        """
        self._load(address, key)
        self._require_exact(f"{key}={address}")
        if not allow_unexpected and self._incompatible.unexpected_keys:
            raise CheckpointError(
                f"{key}={address} holds keys that the model does not have:\n"
                f"{_summary(self._incompatible.unexpected_keys)}\n"
                "Fix: name a checkpoint of this model, or use the config of this checkpoint"
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

    def _load(self, address: str, key: str, *, resuming: bool = False) -> None:
        path = weights.local_path(address, key)
        self._resuming = resuming
        self.load(path, checkpointables=None if resuming else [])

    def _load_file(self, filename: str) -> dict[str, Any]:
        """Reads a file; called by detectron2's `load`."""
        if filename.endswith((".pkl", ".pyth")):
            if not self._allow_pickle:
                raise weights.needs_pickle(filename)
            return super()._load_file(filename)
        content = weights.read(filename, allow_pickle=self._allow_pickle)
        self._file_has_ema = "ema" in content
        self.loaded_spec = content.pop("model_spec", None)
        self._is_backbone = all(name.startswith(BACKBONE) for name in content["model"])
        if self._resuming and "raw_model" in content:
            content["model"] = content.pop("raw_model")
        return content

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        """Keeps what did not fit instead of logging it; called by detectron2's `load`."""
        self._incompatible = incompatible

    def _misfits(self) -> list[str]:
        other_shape = {
            name: f"{name}: {found} in the file, {wanted} in the model"
            for name, found, wanted in self._incompatible.incorrect_shapes
        }
        missing = [
            f"{name}: not in the file"
            for name in self._incompatible.missing_keys
            if name not in other_shape
        ]
        return [*other_shape.values(), *missing]

    def _require_exact(self, what: str) -> None:
        misfits = self._misfits()
        if not misfits:
            return
        if self._is_backbone:
            raise CheckpointError(
                f"{what} holds only a backbone. Fix: name the weights of a whole detector"
            )
        raise CheckpointError(
            f"{what} does not fit the model of this config:\n{_summary(misfits)}\n"
            "Fix: name a checkpoint of this model, or use the config of this checkpoint (class "
            "counts and sizes must agree)"
        )

    def _log_unexpected(self, address: str) -> None:
        if self._incompatible.unexpected_keys and not self._is_backbone:
            logger.warning(
                "%s holds keys that the model does not have:\n%s",
                address,
                "\n".join(self._incompatible.unexpected_keys),
            )


def _summary(lines: Sequence[str]) -> str:
    """Returns the first lines in one line, for a message; a run's log has all of them."""
    if len(lines) > _SHOWN_KEYS:
        logger.debug("all keys that do not fit:\n%s", "\n".join(lines))
    more = f"; and {len(lines) - _SHOWN_KEYS} more" if len(lines) > _SHOWN_KEYS else ""
    return f"  {'; '.join(lines[:_SHOWN_KEYS])}{more}"
