"""Foreign devices that a controller's adapter hears: asked for, checked, kept until the next answer."""
