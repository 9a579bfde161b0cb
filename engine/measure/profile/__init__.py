"""What each region of a mixture costs, stage by stage, and what it could cost at best."""
