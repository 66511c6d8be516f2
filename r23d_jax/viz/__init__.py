"""Pictures and tables for people: annotated copies, timelines, contact sheets, plots."""
