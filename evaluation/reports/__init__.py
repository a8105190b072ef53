"""What reports are made of: intervals, tables, official averages, pages."""
