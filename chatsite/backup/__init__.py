"""Backups, restores and moves between databases; one row format serves all three."""
