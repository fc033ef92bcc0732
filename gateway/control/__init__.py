"""Manages one microgrid: sharing and desired states."""
