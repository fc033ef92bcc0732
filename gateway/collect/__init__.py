"""Takes in what meters send."""
