"""Forward hooks that read a detector's encoder and lend its decoder more queries.

The detector's own code knows nothing of it: hooks are there for one forward pass only.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.predictions import Predictions
from projects.clockdistill.modeling.replay import replayed
from projects.clockdistill.modeling.structures import (
    EncodedImages,
    FeatureLevels,
    QueryGroup,
    QueryLayout,
    TappedForward,
)


class Adapter(Protocol):
    """What the taps must know of a detector family; see `adapters.base.FamilyAdapter`."""

    def running(self, detector: nn.Module) -> AbstractContextManager[Any]: ...

    def transformer(self, detector: nn.Module) -> nn.Module: ...

    def encoder(self, detector: nn.Module) -> nn.Module: ...

    def decoder(self, detector: nn.Module) -> nn.Module: ...

    def read_levels(self, args: tuple[Any, ...]) -> FeatureLevels: ...

    def read_memory(self, output: Any) -> Tensor: ...

    def replay(self, detector: nn.Module, encoded: EncodedImages) -> dict[nn.Module, Any]: ...

    def read_queries(self, kwargs: dict[str, Any]) -> QueryGroup: ...

    def write_queries(self, kwargs: dict[str, Any], layout: QueryLayout) -> dict[str, Any]: ...

    def cut(self, output: Any, part: slice) -> Any: ...

    def predict(
        self, detector: nn.Module, output: Any, reference_points: Tensor
    ) -> Predictions: ...


class _Stop(Exception):
    """Ends a forward pass whose remainder nobody reads."""


class DetectorTap:
    """Runs a detector with taps on its transformer, encoder and decoder.

    Args:
        adapter: knows the detector family.
    """

    def __init__(self, adapter: Adapter):
        self.adapter = adapter

    def run(
        self,
        detector: nn.Module,
        batched_inputs: list[dict[str, Any]],
        groups: Sequence[QueryGroup] = (),
    ) -> TappedForward:
        """The detector's whole forward pass, with `groups` appended to its own queries.

        Args:
            detector: the detector; its mode (train or eval) is left as it is.
            batched_inputs: detectron2's list of dicts.
            groups: appended to the decoder's queries and cut off again, isolated.

        Returns:
            The detector's output, as if no group had been there, the encoder's output and the
            groups' predictions.
        """
        return _Run(self.adapter, detector, tuple(groups)).whole(batched_inputs)

    def read(
        self,
        detector: nn.Module,
        batched_inputs: list[dict[str, Any]],
        groups: Sequence[QueryGroup] = (),
        *,
        own_queries: bool,
        memory: bool = True,
        encoded: EncodedImages | None = None,
    ) -> TappedForward:
        """The forward pass only as far as something is read: no loss, no post-processing.

        Args:
            detector: the detector, in eval mode.
            batched_inputs: detectron2's list of dicts.
            groups: as in `run`.
            own_queries: whether the detector's own queries are decoded and read. If neither they
                nor any group are wanted, the pass ends at the encoder,
            memory: and if the memory is not wanted either, in front of the transformer.
            encoded: what the detector would compute of these images in front of its decoder, where
                it is known already.

        Returns:
            What was read; `output` is None.
        """
        run = _Run(self.adapter, detector, tuple(groups))
        outputs = {} if encoded is None else self.adapter.replay(detector, encoded)
        with replayed(outputs):
            return run.partial(batched_inputs, own_queries, memory)

    def encode(
        self, detector: nn.Module, batched_inputs: list[dict[str, Any]], *, memory: bool
    ) -> EncodedImages:
        """What the detector, in eval mode, computes of images in front of its decoder.

        Args:
            detector: the detector.
            batched_inputs: detectron2's list of dicts.
            memory: whether the encoder runs too.
        """
        found = self.read(detector, batched_inputs, own_queries=False, memory=memory)
        return EncodedImages(found.levels.features, found.memory)


class _Run:
    """The state of one tapped forward pass; thrown away after it."""

    def __init__(self, adapter: Adapter, detector: nn.Module, groups: tuple[QueryGroup, ...]):
        self.adapter = adapter
        self.detector = detector
        self.groups = groups
        self.keep_own = True
        self.keep_memory = True
        self.stop = False
        self.levels: FeatureLevels | None = None
        self.memory: Tensor | None = None
        self.own_queries: QueryGroup | None = None
        self.layout: QueryLayout | None = None
        self.decoded: Any = None

    def whole(self, batched_inputs: list[dict[str, Any]]) -> TappedForward:
        return self._result(self._forward(batched_inputs), read_own=False)

    def partial(
        self, batched_inputs: list[dict[str, Any]], own_queries: bool, memory: bool
    ) -> TappedForward:
        self.keep_own = own_queries
        self.keep_memory = memory
        self.stop = True
        self._forward(batched_inputs)
        return self._result(None, read_own=own_queries)

    def _forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        transformer = self.adapter.transformer(self.detector)
        encoder = self.adapter.encoder(self.detector)
        decoder = self.adapter.decoder(self.detector)
        handles = [
            transformer.register_forward_pre_hook(self._before_transformer),
            encoder.register_forward_hook(self._after_encoder),
            decoder.register_forward_pre_hook(self._before_decoder, with_kwargs=True),
            decoder.register_forward_hook(self._after_decoder),
        ]
        try:
            with self.adapter.running(self.detector):
                return self.detector(batched_inputs)
        except _Stop:
            return None
        finally:
            for handle in handles:
                handle.remove()

    @property
    def _decodes(self) -> bool:
        return self.keep_own or bool(self.groups)

    def _before_transformer(self, module: nn.Module, args: tuple) -> None:
        self.levels = self.adapter.read_levels(args)
        if self.stop and not self._decodes and not self.keep_memory:
            raise _Stop

    def _after_encoder(self, module: nn.Module, args: tuple, output: Any) -> None:
        self.memory = self.adapter.read_memory(output)
        if self.stop and not self._decodes:
            raise _Stop

    def _before_decoder(self, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        own = self.adapter.read_queries(kwargs)
        self.own_queries = own
        self.layout = QueryLayout(len(own) if self.keep_own else 0, self.groups)
        if not self.groups:
            return args, kwargs
        return args, self.adapter.write_queries(kwargs, self.layout)

    def _after_decoder(self, module: nn.Module, args: tuple, output: Any) -> Any:
        self.decoded = output
        if self.stop:
            raise _Stop
        return self.adapter.cut(output, self.layout.own)

    def _result(self, output: Any, read_own: bool) -> TappedForward:
        queries = (self.own_queries, *self.groups) if read_own else self.groups
        read = self._predict(queries) if queries else ()
        return TappedForward(
            output=output,
            levels=self.levels,
            memory=self.memory,
            own_queries=self.own_queries if read_own else None,
            own=read[0] if read_own else None,
            groups=read[1:] if read_own else read,
        )

    def _predict(self, queries: Sequence[QueryGroup]) -> tuple[Predictions, ...]:
        """The predictions of the last decoded queries, whose heads run once for all of them."""
        sizes = [len(group) for group in queries]
        decoded = self.adapter.cut(self.decoded, slice(self.layout.total - sum(sizes), None))
        anchors = [group.reference_points for group in queries]
        known = min(anchor.shape[-1] for anchor in anchors)  # centres alone, if any knows no sizes
        references = torch.cat([anchor[..., :known] for anchor in anchors], dim=1)
        return self.adapter.predict(self.detector, decoded, references).split(sizes)
