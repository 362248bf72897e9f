"""A rank's gradients come to the memory where they are summed, made by backward or by hand."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.utils.weak import TensorWeakRef

from hvd_adam.optim.buckets import Layout
from hvd_adam.optim.kept import KeptGradients
from hvd_adam.optim.refusals import kind_of, refuse_changed, refuse_late_change, refuse_remaining, refuse_replaced


class Filling:
    """Takes the gradients of one step into their buckets, but for those that are kept.

    Parameters below 32 bits allow gradients of any precision from here on: theirs are summed in float32.

    Attributes:
        touched: numbers of the parameters that have a gradient of the worker under way.
        filled: of those that any worker of this rank has filled in a bucket, this step.
    """

    def __init__(self, parameters: Sequence[Tensor], layout: Layout, kept: KeptGradients) -> None:
        self._parameters, self._layout, self._kept = parameters, layout, kept
        self._kinds = [kind_of(parameter) for parameter in parameters]
        self._short = [n for n, bucket in layout.bucket_of.items() if bucket.flat.dtype != parameters[n].dtype]
        for number in self._short:
            parameters[number].grad_dtype = None
        self._left: dict[int, TensorWeakRef] = {}  # by the last step, in other memory than the bucket's
        self.reset()

    def reset(self) -> None:
        """Starts a step."""
        self.touched: set[int] = set()
        self.filled: set[int] = set()

    def end(self) -> None:
        """After a step: gradients that it has left are not to be taken again."""
        left = ((number, self._parameters[number].grad) for number in self._short)
        self._left = {number: TensorWeakRef(gradient) for number, gradient in left if gradient is not None}

    def take(self, number: int) -> None:
        """Takes a gradient into its bucket; from then on p.grad is the bucket's memory.

        Raises:
            RunError: it is there already, from the step before; or the parameter is not what it was when wrapped.
        """
        parameter, view = self._parameters[number], self._layout.bucket_of[number].views[number]
        refuse_changed(parameter, self._kinds[number])
        assert parameter.grad is not None
        gradient = parameter.grad.detach()  # it may have a graph
        in_place = gradient.data_ptr() == view.data_ptr() != 0
        left = number in self._left and self._left[number]() is parameter.grad
        if (in_place or left) and number not in self.filled:
            refuse_remaining()
        if not in_place:
            apart = number not in self.touched  # else p.grad was the sum so far
            view.add_(gradient) if number in self.filled and apart else view.copy_(gradient)
            parameter.grad = view
        self.touched.add(number)
        self.filled.add(number)

    def let_go(self) -> None:
        """Between two workers: the next one's gradients are its own, and not the sum so far with them added."""
        for number in self.touched:
            if number not in self._kept:
                self._parameters[number].grad = None

    def sweep(self, launched: int, last: bool) -> None:
        """Looks at every parameter once: gradients set or taken away by hand are honoured.

        Args:
            launched: so many buckets have left.
            last: no other worker of this rank follows.

        Raises:
            RunError: that was done to one whose bucket has left; or such a bucket was changed in place.
        """
        for number, parameter in enumerate(self._parameters):
            if number in self._kept:
                if self._kept.close(number):
                    self.touched.add(number)
                continue
            bucket = self._layout.bucket_of[number]
            view, gradient = bucket.views[number], parameter.grad
            if gradient is not None and gradient.data_ptr() == view.data_ptr() and gradient.stride() != view.stride():
                gradient = parameter.grad = gradient.clone()  # its bucket's memory in another order
            own = gradient is not None and gradient.data_ptr() == view.data_ptr() != 0  # that of empty ones
            if bucket.index < launched:
                if not own and view.numel():
                    refuse_replaced(parameter)
                if bucket.left_at not in (None, bucket.version):
                    refuse_late_change()
            elif gradient is not None and not own:
                if number in self.filled and number in self.touched:  # p.grad was the sum so far
                    view.zero_()
                    self.filled.discard(number)
                self.take(number)
            elif gradient is None and number in self.touched:
                self.touched.discard(number)
                self.filled.discard(number)
            elif own and number not in self.filled:
                self.take(number)  # refuses: last step's gradient
            if last and number not in self.filled:
                view.zero_()
