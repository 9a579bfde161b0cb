"""Reading, checking and naming atoms."""
