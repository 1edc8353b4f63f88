"""What a model is run on: the user's data, wherever they are, and what makes them unfit."""
