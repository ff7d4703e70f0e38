"""A small labelled data set, drawn here and packed like ImageNet's archives."""
