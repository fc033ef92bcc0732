"""Cliques of controllers: who may take over for whom, signs of life, messages, and the files of the office."""
