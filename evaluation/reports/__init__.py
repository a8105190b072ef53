"""Reports and their parts: intervals, tables, official averages, pages."""
