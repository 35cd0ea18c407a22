"""Write the experiment's report: report.md and report.html."""
