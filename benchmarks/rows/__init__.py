"""Rows of the table that ``benchmarks/bench.py`` prints, one file per thing that is measured."""
