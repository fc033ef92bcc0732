"""The past of the demonstration: thirteen months of its town, shipped as ``commonwatt/demo/past.tar.zst``."""
