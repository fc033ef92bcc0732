"""Queries of the town's pages: states, figures of quarters and days, series of meters, search."""
