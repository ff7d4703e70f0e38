"""A small labeled data set, drawn here and packed like ImageNet's archives."""
