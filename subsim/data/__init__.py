"""Labelled images, and the input distributions that students see."""
