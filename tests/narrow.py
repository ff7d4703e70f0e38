"""torchvision's network with few units, for tests of import."""

import torch
import torchvision
from torch import nn


class Narrow(torchvision.models.AlexNet):
    """torchvision's network with other widths."""

    def __init__(self, num_classes: int = 1000):
        with torch.device("meta"):
            super().__init__()
        widths = iter((8, 24, 16, 16, 8, 40, 32, num_classes))
        channels = 3
        for part in (self.features, self.classifier):
            for place, layer in enumerate(part):
                if isinstance(layer, nn.Conv2d):
                    width = next(widths)
                    part[place] = nn.Conv2d(
                        channels, width, layer.kernel_size, layer.stride, layer.padding
                    )
                    channels = width
                elif isinstance(layer, nn.Linear):
                    width = next(widths)
                    inputs = channels * 36 if place == 1 else channels
                    part[place], channels = nn.Linear(inputs, width), width
