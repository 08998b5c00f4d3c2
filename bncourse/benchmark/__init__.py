"""Measuring the implementations side by side: time, memory and accuracy."""
