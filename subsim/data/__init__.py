"""Labelled images, and the input distributions of students."""
