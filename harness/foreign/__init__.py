"""Foreign meters for tests: random histories of a counter, and emulated devices with their real habits."""
