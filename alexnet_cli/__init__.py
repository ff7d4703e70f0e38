"""AlexNet (Krizhevsky, Sutskever, Hinton, NIPS 2012), from ImageNet's archives to its results."""

__version__ = "0.1.0"
