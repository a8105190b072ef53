"""Files: records, settings and texts of others, read strictly; our own JSON; locks, checksums, errors of disks."""
