"""Intervals, contrasts, factorials and tables of labelled results."""
