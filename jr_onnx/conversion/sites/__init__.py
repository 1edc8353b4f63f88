"""Where a model has a ReLU."""
