"""Tables of results: rows of numbers that know their names, units, directions and forms."""

from unmem.tables.table import Cell, Column, Row, Table

__all__ = ["Cell", "Column", "Row", "Table"]
