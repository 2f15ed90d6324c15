"""The recipes that come with i2i, and the weights that they ship."""
