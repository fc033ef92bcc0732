"""Releases for researchers, and the attacks that measure what they give away (U7, pure)."""
