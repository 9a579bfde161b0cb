"""Reading words and numbers, and refusing them clearly."""
