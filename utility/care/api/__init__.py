"""What controllers may ask at the care listener: a module for each path."""
