"""Debian packages of the project, made without root; it needs Python's own library and dpkg-deb."""
