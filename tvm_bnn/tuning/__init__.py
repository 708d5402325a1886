"""Tuning: decisions of the schedule templates, measured on devices and kept as records."""
