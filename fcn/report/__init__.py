"""report.md and report.html."""
