"""Forward hooks that read a detector's encoder and append query groups in its decoder.

The detector's code knows nothing of the hooks, which exist for one forward pass only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from projects.clockdistill.modeling.adapters.base import FamilyAdapter
from projects.clockdistill.modeling.detectors.predictions import Predictions
from projects.clockdistill.modeling.query_groups import QueryGroup, SpecificQueries


@dataclass(frozen=True)
class DetectorRun:
    """One forward pass of a detector, with what the hooks read on the way.

    B images, L levels, S memory tokens, D channels; Q queries of all groups together.

    Attributes:
        output: what the detector returned: losses in train mode, detections in eval mode; None if
            the pass was stopped early.
        features: per level (B, D, H_l, W_l), what entered the transformer.
        masks: per level (B, H_l, W_l) bool, True = padding.
        memory: (B, S, D), the encoder's output; None if the encoder did not run.
        groups: the query groups that `predictions` holds, in order: the appended ones, then the
            group made of the detector queries, if there is one.
        predictions: of these Q queries; None if there are none.
    """

    output: Any
    features: Sequence[Tensor]
    masks: Sequence[Tensor]
    memory: Tensor | None
    groups: tuple[QueryGroup, ...]
    predictions: Predictions | None


class _Stop(Exception):
    """Ends a forward pass whose remainder is not needed."""


class DetectorHooks:
    """Runs a detector with forward hooks on its transformer, encoder and decoder.

    Args:
        detector: the detector; its mode (train or eval) is left as it is.
        adapter: knows the detector's family.
        stop_after: the last part that runs; None runs the whole pass.
        specific: makes a further group of the detector queries. Only for passes that stop:
            without it, they do not decode the detector queries.
    """

    def __init__(
        self,
        detector: nn.Module,
        adapter: FamilyAdapter,
        stop_after: Literal["neck", "encoder", "decoder"] | None = None,
        specific: SpecificQueries | None = None,
    ):
        self.detector = detector
        self.adapter = adapter
        self.stop_after = stop_after
        self.specific = specific

    def run(
        self,
        batched_inputs: list[dict[str, Any]],
        groups: Sequence[QueryGroup] = (),
        targets: list[dict[str, Tensor]] | None = None,
    ) -> DetectorRun:
        """Runs one forward pass.

        Args:
            batched_inputs: detectron2's list of dicts.
            groups: appended to the decoder's queries, isolated from each other and from the
                detector queries, and removed from what the decoder returns.
            targets: the detector's targets, where they are prepared already.

        Returns:
            The detector's output, as if no group had been appended, and what the hooks read.
        """
        run = _Pass(self, tuple(groups))
        decoder = self.adapter.decoder(self.detector)
        handles = [
            self.adapter.transformer(self.detector).register_forward_pre_hook(
                run.enter_transformer
            ),
            self.adapter.encoder(self.detector).register_forward_hook(run.leave_encoder),
            decoder.register_forward_pre_hook(run.enter_decoder, with_kwargs=True),
            decoder.register_forward_hook(run.leave_decoder, with_kwargs=True),
        ]
        output = None
        try:
            output = self.adapter.run(self.detector, batched_inputs, targets)
        except _Stop:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return run.result(output)


class _Pass:
    """What the hooks read of one forward pass."""

    def __init__(self, hooks: DetectorHooks, groups: tuple[QueryGroup, ...]):
        self.hooks = hooks
        self.adapter = hooks.adapter
        self.appended = groups
        self.groups = groups
        self.num_kept = 0  # detector queries that are decoded
        self.features: Sequence[Tensor] = ()
        self.masks: Sequence[Tensor] = ()
        self.memory: Tensor | None = None
        self.decoder_kwargs: dict[str, Any] = {}
        self.decoder_output: Any = None

    def enter_transformer(self, module: nn.Module, args: tuple) -> None:
        self.features, self.masks = self.adapter.read_features(args)
        if self.hooks.stop_after == "neck":
            raise _Stop

    def leave_encoder(self, module: nn.Module, args: tuple, output: Any) -> None:
        self.memory = self.adapter.read_memory(output)
        if self.hooks.stop_after == "encoder":
            raise _Stop

    def enter_decoder(self, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        detector_queries = self.adapter.read_queries(kwargs)
        if self.hooks.specific is not None:
            self.groups = (*self.appended, self.hooks.specific(detector_queries))
        kept = self.hooks.stop_after is None or self.hooks.specific is not None
        self.num_kept = len(detector_queries) if kept else 0
        if not self.appended:
            return args, kwargs
        return args, self.adapter.append_queries(kwargs, self.appended, self.num_kept)

    def leave_decoder(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        self.decoder_kwargs, self.decoder_output = kwargs, output
        if self.hooks.stop_after == "decoder":
            raise _Stop
        return self.adapter.select(output, slice(0, self.num_kept))

    def result(self, output: Any) -> DetectorRun:
        predictions = self._predictions() if self.groups else None
        return DetectorRun(output, self.features, self.masks, self.memory, self.groups, predictions)

    def _predictions(self) -> Predictions:
        """Runs the heads once, on the queries of all groups."""
        read = slice(self.num_kept, None) if self.hooks.specific is None else slice(None)
        predictions = self.adapter.predict(
            self.hooks.detector, self.decoder_kwargs, self.decoder_output, read
        )
        if self.hooks.specific is None:
            return predictions
        # From the decoder's order [detector queries | appended] to that of the groups.
        queries = sum(map(len, self.groups))
        logits, boxes = (
            x.roll(-self.num_kept, dims=2)[:, :, :queries]
            for x in (predictions.logits, predictions.boxes)
        )
        return Predictions(logits, boxes)
