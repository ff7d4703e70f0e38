"""Rates set by hand, as the authors set them."""

from dataclasses import dataclass

from alexnet_cli.errors import RecipeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A rate set by hand when so many epochs were done, as the authors did between restarts.

    Attributes:
        layers: whose weights it is for; all when empty. A layer at rate 0 stays as it is for good,
            weights and biases.
        bias_rate: of the same layers' biases; None leaves it as it is.
    """

    epoch: float
    rate: float
    layers: tuple[str, ...] = ()
    bias_rate: float | None = None


def check_events(events: tuple, layer_names: list[str]) -> None:
    """Refuse rates set by hand that are none, or out of their order.

    Raises:
        RecipeError: they are.
    """
    if not all(isinstance(event, Event) for event in events):
        raise RecipeError("events: a list of Event; it cannot be set on the command line.")
    for event in events:
        numbers = (event.epoch, event.rate, event.bias_rate or 0.0)
        if not all(isinstance(n, (int, float)) and 0 <= n < 1e6 for n in numbers):
            raise RecipeError(f"events: {event}: epoch and rates are numbers from 0 on.")
        if unknown := set(event.layers) - set(layer_names):
            raise RecipeError(f"events: no layer {', '.join(sorted(unknown))}.")
        if not event.layers and not event.rate:
            raise RecipeError("events: name the layers that a rate of 0 puts to rest.")
    if [e.epoch for e in events] != sorted(e.epoch for e in events):
        raise RecipeError("events: list them in the order of their epochs.")
